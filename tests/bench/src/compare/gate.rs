//! Whether Selvedge keeps ahead of BIRD: the verdict over one comparison.

use std::fmt;

use super::daemon::Candidate;
use super::result::{Figure, Results};

/// What must not be above BIRD's.
const GATED: [Figure; 3] = [Figure::AllRoutes, Figure::Cpu, Figure::MemoryGrowth];

/// One figure of the gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    figure: Figure,
    /// Medians; `None` where there is none.
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
        write!(f, "{mark}  {}: ", self.figure)?;
        match (self.selvedge, self.bird) {
            (Some(selvedge), Some(bird)) => write!(f, "Selvedge {selvedge:.3}, BIRD {bird:.3}"),
            (None, _) | (_, None) => write!(f, "not measured"),
        }
    }
}

/// The verdicts on all figures of the gate.
pub(super) fn judge(results: &Results) -> Vec<Verdict> {
    GATED
        .into_iter()
        .map(|figure| Verdict {
            figure,
            selvedge: results.median(Candidate::Selvedge, figure),
            bird: results.median(Candidate::Bird, figure),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::result::Sample;
    use super::*;

    fn results(selvedge: &[f64], bird: &[f64], figure: Figure) -> Results {
        let mut results = Results::default();
        for (candidate, values) in [(Candidate::Selvedge, selvedge), (Candidate::Bird, bird)] {
            for value in values {
                let mut sample: Sample = GATED.into_iter().map(|other| (other, 1.0)).collect();
                sample.insert(figure, *value);
                results.add(candidate, sample);
            }
        }
        results
    }

    fn failed(results: &Results) -> Vec<Figure> {
        judge(results).into_iter().filter(|verdict| !verdict.holds()).map(|verdict| verdict.figure).collect()
    }

    #[test]
    fn each_figure_fails_by_itself() {
        for figure in GATED {
            assert_eq!(failed(&results(&[1.1, 1.2, 1.3], &[1.0, 1.1, 1.0], figure)), [figure]);
            assert_eq!(failed(&results(&[1.0, 1.0, 1.0], &[1.0, 1.1, 1.0], figure)), []);
        }
    }

    #[test]
    fn one_bad_run_of_three_is_no_verdict_and_two_are() {
        let figure = Figure::AllRoutes;
        assert_eq!(failed(&results(&[9.0, 0.1, 0.1], &[1.0, 1.0, 1.0], figure)), []);
        assert_eq!(failed(&results(&[9.0, 9.0, 0.1], &[1.0, 1.0, 1.0], figure)), [figure]);
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let mut results = Results::default();
        assert_eq!(failed(&results), GATED);
        results.add(Candidate::Selvedge, GATED.into_iter().map(|figure| (figure, 0.1)).collect());
        assert_eq!(failed(&results), GATED);
    }

    #[test]
    fn the_verdict_names_the_figure_and_both_numbers() {
        let verdicts = judge(&results(&[0.5], &[0.4], Figure::AllRoutes));
        let lines: Vec<_> = verdicts.iter().map(Verdict::to_string).collect();
        assert_eq!(lines[0], "FAILED  all routes in the kernel, s: Selvedge 0.500, BIRD 0.400");
        assert!(lines[1].starts_with("held"), "{}", lines[1]);
    }
}
