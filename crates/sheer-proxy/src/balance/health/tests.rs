use rand::{SeedableRng, rngs::SmallRng};

use super::*;

struct Bench {
    health: Health,
    rule: Rule,
    now: Instant,
    rng: SmallRng,
}

impl Bench {
    fn new(accrual: Option<FailureAccrual>) -> Self {
        Self {
            health: Health::default(),
            rule: Rule::new(accrual),
            now: Instant::now(),
            rng: SmallRng::seed_from_u64(1),
        }
    }

    fn ended(&self) -> Ended {
        Ended {
            began: self.now,
            now: self.now,
        }
    }

    fn fail(&mut self) -> Option<Event> {
        self.fail_with(None, true)
    }

    fn fail_with(&mut self, hint: Option<Duration>, may: bool) -> Option<Event> {
        let ended = self.ended();
        self.health.failed((ended, hint), &self.rule, || may, &mut self.rng)
    }

    fn succeed(&mut self) -> (bool, Option<Event>) {
        let ended = self.ended();
        self.health.succeeded(ended, &self.rule)
    }

    fn fail_times(&mut self, n: u32) {
        for _ in 0..n {
            self.fail();
        }
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn accrual(max_consecutive: Option<u32>, success_rate: Option<SuccessRate>) -> FailureAccrual {
    FailureAccrual {
        max_consecutive,
        success_rate,
        backoff: Backoff {
            min: seconds(2),
            max: seconds(20),
            jitter: 0.0,
            honour_hint: true,
        },
        min_ready: 0,
    }
}

const RATE: SuccessRate = SuccessRate {
    threshold: 0.8,
    window: Duration::from_secs(10),
    min_requests: 5,
};

#[test]
fn sits_out_after_failures_in_a_row_only() {
    let mut bench = Bench::new(None);
    bench.fail_times(FAILURES_IN_A_ROW - 1);
    assert_eq!(bench.health.sits_out_until(), None);
    assert!(matches!(
        bench.fail(),
        Some(Event::SitsOut(Why::InARow(FAILURES_IN_A_ROW), _))
    ));
    let until = bench.health.sits_out_until().expect("sits out");
    assert!(until >= bench.now + SIT_OUT_MIN && until <= bench.now + SIT_OUT_MIN.mul_f64(1.0 + JITTER));

    let mut bench = Bench::new(None);
    bench.fail_times(FAILURES_IN_A_ROW - 1);
    bench.succeed();
    bench.fail();
    assert_eq!(
        bench.health.sits_out_until(),
        None,
        "a success in between starts the count again"
    );
}

#[test]
fn a_failed_probe_doubles_the_sit_out_up_to_its_maximum() {
    let mut bench = Bench::new(None);
    bench.fail_times(FAILURES_IN_A_ROW);
    let mut last = Duration::ZERO;
    for _ in 0..10 {
        assert_eq!(bench.health.probe(), Some(Event::Probation));
        assert!(bench.health.on_probation());
        assert!(matches!(bench.fail(), Some(Event::SitsOutAgain(_))));
        last = bench.health.sits_out_until().expect("sits out again") - bench.now;
    }
    assert!(
        last >= SIT_OUT_MAX && last <= SIT_OUT_MAX.mul_f64(1.0 + JITTER),
        "{last:?}"
    );
    bench.health.probe();
    assert_eq!(bench.succeed(), (true, Some(Event::Back(Stage::Probation))));
    assert_eq!(bench.health.failures(), 0);
}

#[test]
fn the_policy_says_how_many_and_how_long() {
    let mut bench = Bench::new(Some(accrual(Some(3), None)));
    bench.fail_times(2);
    assert_eq!(bench.fail(), Some(Event::SitsOut(Why::InARow(3), seconds(2))));
    for expected in [4, 8, 16, 20, 20] {
        bench.health.probe();
        assert_eq!(bench.fail(), Some(Event::SitsOutAgain(seconds(expected))));
    }
}

#[test]
fn half_of_the_requests_failing_is_no_row_but_a_low_rate() {
    let mut bench = Bench::new(Some(accrual(Some(7), Some(RATE))));
    let mut out = None;
    for i in 0..6 {
        assert_eq!(out, None);
        if i % 2 == 0 {
            bench.succeed();
        } else {
            out = bench.fail();
        }
    }
    assert_eq!(
        out,
        Some(Event::SitsOut(Why::Rate(0.5), seconds(2))),
        "not before five requests ended"
    );
    bench.health.probe();
    bench.succeed();
    assert_eq!(bench.fail(), None, "after probation its rate starts anew");
}

#[test]
fn the_endpoint_says_how_long_it_wants_to_be_left_alone() {
    let mut bench = Bench::new(Some(accrual(Some(1), None)));
    assert_eq!(
        bench.fail_with(Some(seconds(7)), true),
        Some(Event::SitsOut(Why::InARow(1), seconds(7)))
    );
    let mut bench = Bench::new(Some(accrual(Some(1), None)));
    let out = bench.fail_with(Some(seconds(3600)), true);
    assert_eq!(
        out,
        Some(Event::SitsOut(Why::InARow(1), seconds(20))),
        "never longer than the policy's maximum"
    );
}

#[test]
fn who_may_not_sit_out_stays_and_that_is_told_once() {
    let mut bench = Bench::new(Some(accrual(Some(2), None)));
    bench.fail();
    assert_eq!(bench.fail_with(None, false), Some(Event::Stays(Why::InARow(2))));
    assert_eq!(bench.fail_with(None, false), None);
    assert_eq!(bench.health.stage(), Stage::Closed);
    assert_eq!(bench.fail(), Some(Event::SitsOut(Why::InARow(4), seconds(2))));
}

#[test]
fn what_was_sent_before_a_sit_out_does_not_end_or_lengthen_it() {
    let mut bench = Bench::new(None);
    bench.fail_times(FAILURES_IN_A_ROW);
    let late = Ended {
        began: bench.now - seconds(1),
        now: bench.now + seconds(1),
    };
    assert_eq!(bench.health.succeeded(late, &bench.rule), (false, None));
    bench.health.probe();
    let failed = bench.health.failed((late, None), &bench.rule, || true, &mut bench.rng);
    assert_eq!((failed, bench.health.stage()), (None, Stage::Probation));
}

#[test]
fn which_answers_are_failures_depends_on_the_mode() {
    let faults = [Fault::Lost, Fault::Unavailable, Fault::Failed, Fault::Overloaded];
    let counted = |accrual| faults.map(|fault| Rule::new(accrual).counts(fault));
    assert_eq!(counted(None), [true, true, false, false]);
    assert_eq!(counted(Some(accrual(Some(7), None))), [true, true, true, false]);
    assert_eq!(counted(Some(accrual(Some(7), Some(RATE)))), [true; 4]);
}
