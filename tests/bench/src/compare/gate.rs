//! Whether Selvedge keeps ahead of BIRD: the verdict over one comparison at two sizes.
//!
//! Time and processor time are compared at the smaller size, where fixed costs weigh most. Memory is compared by what
//! each further route takes, from the smaller to the larger size: what is left out by that, the pages of the program
//! itself, its libraries and its buffers, is the same at any number of routes and not what a table costs. It is shown.
//!
//! There is no margin: medians of runs that took turns, where Selvedge is ahead by four times in time and by almost
//! two in memory. A noise that turns that round is not noise.

use std::fmt;

use super::daemon::Candidate;
use super::result::{Figure, Results};

/// Results at one size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size<'a> {
    /// Routes that each ToR announced.
    pub(super) routes: u32,
    /// What was measured then.
    pub(super) results: &'a Results,
}

/// One figure of the gate: medians, `None` where there is none.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    what: String,
    selvedge: Option<f64>,
    bird: Option<f64>,
}

impl Verdict {
    /// Whether Selvedge is not behind. A figure that was not measured does not hold.
    pub(super) fn holds(&self) -> bool {
        self.selvedge.zip(self.bird).is_some_and(|(selvedge, bird)| selvedge <= bird)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.holds() { "held  " } else { "FAILED" };
        write!(f, "{mark}  {}: ", self.what)?;
        match (self.selvedge, self.bird) {
            (Some(selvedge), Some(bird)) => write!(f, "Selvedge {selvedge:.3}, BIRD {bird:.3}"),
            (None, _) | (_, None) => write!(f, "not measured"),
        }
    }
}

/// The verdicts on time, processor time and memory.
pub(super) fn judge(small: Size<'_>, large: Size<'_>) -> [Verdict; 3] {
    [
        at(small, Figure::AllRoutes),
        at(small, Figure::Cpu),
        Verdict {
            what: format!("memory for each route from {} to {}, octets", small.routes, large.routes),
            selvedge: octets_per_route(small, large, Candidate::Selvedge),
            bird: octets_per_route(small, large, Candidate::Bird),
        },
    ]
}

fn at(size: Size<'_>, figure: Figure) -> Verdict {
    Verdict {
        what: format!("{} routes, {figure}", size.routes),
        selvedge: size.results.median(Candidate::Selvedge, figure),
        bird: size.results.median(Candidate::Bird, figure),
    }
}

fn octets_per_route(small: Size<'_>, large: Size<'_>, candidate: Candidate) -> Option<f64> {
    let [less, more] = [small, large].map(|size| size.results.median(candidate, Figure::PeakMemory));
    let routes = large.routes.checked_sub(small.routes).filter(|routes| *routes > 0)?;
    Some((more? - less?) * 1024.0 * 1024.0 / f64::from(routes))
}

#[cfg(test)]
mod tests {
    use super::super::result::Sample;
    use super::*;

    const SMALL: u32 = 10_000;
    const LARGE: u32 = 40_000;

    /// Seconds, seconds of processor time and peak memory of each run.
    type Runs<'a> = &'a [[f64; 3]];

    fn results(selvedge: Runs<'_>, bird: Runs<'_>) -> Results {
        let mut results = Results::default();
        for (candidate, runs) in [(Candidate::Selvedge, selvedge), (Candidate::Bird, bird)] {
            for run in runs {
                let figures = [Figure::AllRoutes, Figure::Cpu, Figure::PeakMemory];
                results.add(candidate, figures.into_iter().zip(*run).collect::<Sample>());
            }
        }
        results
    }

    const NONE: [usize; 0] = [];

    /// Which of the three do not hold.
    fn failed(small: &Results, large: &Results) -> Vec<usize> {
        let verdicts = judge(Size { routes: SMALL, results: small }, Size { routes: LARGE, results: large });
        (0..3).filter(|at| !verdicts[*at].holds()).collect()
    }

    #[test]
    fn ahead_in_everything_passes_though_the_program_itself_is_larger() {
        let small = results(&[[0.07, 0.05, 9.6]], &[[0.4, 0.2, 6.2]]);
        let large = results(&[[0.3, 0.2, 12.1]], &[[1.5, 1.0, 10.8]]);
        assert_eq!(failed(&small, &large), NONE);
    }

    #[test]
    fn each_figure_fails_by_itself() {
        let bird_small: Runs<'_> = &[[0.4, 0.2, 6.0]];
        let large = results(&[[0.3, 0.2, 12.0]], &[[1.5, 1.0, 10.0]]);
        assert_eq!(failed(&results(&[[0.5, 0.1, 9.0]], bird_small), &large), [0]);
        assert_eq!(failed(&results(&[[0.3, 0.3, 9.0]], bird_small), &large), [1]);
        assert_eq!(failed(&results(&[[0.3, 0.1, 7.0]], bird_small), &large), [2]);
        assert_eq!(failed(&results(&[[0.4, 0.2, 8.0]], bird_small), &large), NONE, "even is not behind");
    }

    #[test]
    fn one_bad_run_of_three_is_no_verdict_and_two_are() {
        let (good, slow) = ([0.1, 0.1, 9.0], [9.0, 0.1, 9.0]);
        let bird: Runs<'_> = &[[0.4, 0.2, 6.0]; 3];
        let large = results(&[[0.3, 0.2, 10.0]; 3], &[[1.5, 1.0, 10.0]; 3]);
        assert_eq!(failed(&results(&[slow, good, good], bird), &large), NONE);
        assert_eq!(failed(&results(&[slow, good, slow], bird), &large), [0]);
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let nothing = Results::default();
        let alone = results(&[[0.1, 0.1, 9.0]], &[]);
        assert_eq!(failed(&nothing, &nothing), [0, 1, 2]);
        assert_eq!(failed(&alone, &alone), [0, 1, 2]);
        let both = results(&[[0.1, 0.1, 9.0]], &[[0.1, 0.1, 9.0]]);
        assert_eq!(failed(&both, &nothing), [2]);
    }

    #[test]
    fn the_verdict_names_the_figure_and_both_numbers() {
        let small = results(&[[0.5, 0.1, 9.0]], &[[0.4, 0.2, 6.0]]);
        let large = results(&[[1.0, 1.0, 12.0]], &[[1.0, 1.0, 12.0]]);
        let verdicts =
            judge(Size { routes: SMALL, results: &small }, Size { routes: LARGE, results: &large });
        let [time, cpu, memory] = verdicts.map(|verdict| verdict.to_string());
        assert_eq!(time, "FAILED  10000 routes, all routes in the kernel, s: Selvedge 0.500, BIRD 0.400");
        assert!(cpu.starts_with("held"), "{cpu}");
        let expected =
            "held    memory for each route from 10000 to 40000, octets: Selvedge 104.858, BIRD 209.715";
        assert_eq!(memory, expected);
    }
}
