//! What a person wants to see of the rack once it is up.

use std::path::Path;

use lab::{Agent, Daemon, Host, Rack, Result};

/// Prints for each node what its daemon and its kernel say.
pub(crate) fn rack(rack: &Rack) -> Result<()> {
    for node in &rack.nodes {
        let title = |what: &str| println!("\n--- {}: {what}", node.router.name);
        match &node.daemon {
            Some(Daemon::Agent(agent)) => {
                title("bgpctl show summary");
                println!("{}", agent.bgpctl(&["show", "summary"])?.trim_end());
            }
            Some(Daemon::Frr(frr)) => {
                title("show bgp summary");
                println!("{}", frr.vtysh("show bgp summary")?.trim());
            }
            Some(Daemon::Bird(_)) | None => {}
        }
        title("ip route");
        println!("{}", routes(node)?);
    }
    Ok(())
}

/// Prints how to ask the agents more, and how to restart them.
pub(crate) fn sockets(rack: &Rack) {
    println!("\nTo look around, from another terminal:");
    for node in &rack.nodes {
        if let Some(Daemon::Agent(agent)) = &node.daemon {
            let bgpctl = typed(&agent.programs().bgpctl);
            println!("  {} --socket {} show neighbor", bgpctl.display(), agent.socket().display());
        }
        println!("  ip netns exec {} ip route", node.netns.name());
    }
    let mut agents = rack.nodes.iter().filter_map(|node| match &node.daemon {
        Some(Daemon::Agent(agent)) => Some((node, agent)),
        Some(Daemon::Frr(_) | Daemon::Bird(_)) | None => None,
    });
    if let Some((node, agent)) = agents.next() {
        println!("To restart an agent:");
        println!("  {}", restart(node, agent));
    }
}

/// Ends the agent as a service manager does, and starts it in the terminal.
fn restart(node: &Host, agent: &Agent) -> String {
    let end = agent.id().map(|id| format!("kill {id}; ")).unwrap_or_default();
    let words = agent.command_line();
    let words: Vec<_> = words.iter().map(|word| typed(Path::new(word)).display().to_string()).collect();
    format!("{end}ip netns exec {} {}", node.netns.name(), words.join(" "))
}

/// A program as it is called from where the lab was started, in whatever directory cargo was told to build it.
fn typed(program: &Path) -> &Path {
    std::env::current_dir().map_or(program, |here| relative(program, &here))
}

/// A bare name would be looked for in `PATH`.
fn relative<'a>(path: &'a Path, directory: &Path) -> &'a Path {
    path.strip_prefix(directory).ok().filter(|rest| rest.components().count() > 1).unwrap_or(path)
}

/// As `ip` prints them; where there is no `ip`, as much of it as the lab knows.
fn routes(node: &Host) -> Result<String> {
    let mut text = String::new();
    for family in ["-4", "-6"] {
        match node.netns.command("ip").args([family, "route"]).output() {
            Ok(output) if output.status.success() => text.push_str(&String::from_utf8_lossy(&output.stdout)),
            Ok(_) | Err(_) => {
                let lines: Vec<_> = node.netns.routes()?.iter().map(ToString::to_string).collect();
                return Ok(lines.join("\n"));
            }
        }
    }
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_called_from_where_the_lab_was_started() {
        for (program, here, called) in [
            ("/src/selvedge/target/release/bgpctl", "/src/selvedge", "target/release/bgpctl"),
            ("/build/release/bgpctl", "/src/selvedge", "/build/release/bgpctl"),
            ("/build/release/bgpctl", "/build/release", "/build/release/bgpctl"),
        ] {
            assert_eq!(relative(Path::new(program), Path::new(here)), Path::new(called));
        }
    }
}
