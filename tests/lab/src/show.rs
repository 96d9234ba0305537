//! What a person wants to see of the rack once it is up.

use lab::{Daemon, Host, Rack, Result};

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

/// Prints how to ask the agents more.
pub(crate) fn sockets(rack: &Rack) {
    println!("\nTo look around, from another terminal:");
    for node in &rack.nodes {
        if let Some(Daemon::Agent(agent)) = &node.daemon {
            println!("  target/release/bgpctl --socket {} show neighbor", agent.socket().display());
        }
        println!("  ip netns exec {} ip route", node.netns.name());
    }
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
