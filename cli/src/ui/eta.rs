//! The time left: from the work done and the work expected, whatever its unit. It knows no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Nothing is said before work has been done for so long.
const SAID_AFTER: Duration = Duration::from_secs(5);
/// How far back the speed is measured: some chunks, each of which begins with its longest texts.
const SPEED_WINDOW: Duration = Duration::from_secs(120);
/// How slowly the time left follows a better estimate.
const FOLLOWS_IN: Duration = Duration::from_secs(10);
/// The time left rises where the estimate is this many times as long,
const RISES_ABOVE: f64 = 1.3;
/// and this much longer.
const RISES_BY: Duration = Duration::from_secs(5);
/// Below that it counts down slowly: by this share of the time that passes.
const SLOW_COUNTDOWN: f64 = 0.25;
/// A rise is the fault of the speed where that fell below this share of what it was.
const SLOWER_BELOW: f64 = 0.9;
/// How long the reason of a rise is said.
const REASON_FOR: Duration = Duration::from_secs(30);

/// Why the time left rose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rise {
    /// The speed fell.
    Slower,
    /// There is more work than was expected.
    MoreWork,
}

/// An estimate of the end, which counts down evenly and rises only for a reason.
pub(super) struct Eta {
    readings: VecDeque<(Instant, f64)>,
    end: Option<End>,
}

struct End {
    at: Instant,
    /// When it was last changed.
    changed: Instant,
    /// The speed when it was first said or last rose.
    speed: f64,
    rose: Option<(Instant, Rise)>,
}

impl Eta {
    /// Begins with work that was done before.
    pub(super) fn new(now: Instant, done: f64) -> Self {
        Self { readings: VecDeque::from([(now, done)]), end: None }
    }

    /// Takes a reading; `total` is the work expected in all.
    pub(super) fn add(&mut self, now: Instant, done: f64, total: Option<f64>) {
        if self.readings.len() == 1 && self.readings[0].1 >= done {
            // Loading a model is no slow work.
            self.readings[0] = (now, done);
            return;
        }
        self.readings.push_back((now, done));
        while self.readings.len() > 2 && now.duration_since(self.readings[1].0) > SPEED_WINDOW {
            self.readings.pop_front();
        }
        let (Some(speed), Some(total)) = (self.speed(), total) else { return };
        let left = Duration::from_secs_f64(((total - done).max(0.0) / speed).min(1e9));
        self.follow(now, left, speed);
    }

    /// Returns the work done per second, once it says anything.
    fn speed(&self) -> Option<f64> {
        let (first, last) = (self.readings.front()?, self.readings.back()?);
        let time = last.0.duration_since(first.0);
        let done = last.1 - first.1;
        (time >= SAID_AFTER && done > 0.0).then(|| done / time.as_secs_f64())
    }

    fn follow(&mut self, now: Instant, left: Duration, speed: f64) {
        let Some(end) = &mut self.end else {
            self.end = Some(End { at: now + left, changed: now, speed, rose: None });
            return;
        };
        let said = end.at.saturating_duration_since(now);
        let passed = now.duration_since(end.changed);
        if left <= said {
            let share = passed.as_secs_f64() / FOLLOWS_IN.as_secs_f64();
            end.at -= (said - left).mul_f64(1.0 - (-share).exp());
        } else if left > said.mul_f64(RISES_ABOVE) + RISES_BY {
            let reason = if speed < end.speed * SLOWER_BELOW { Rise::Slower } else { Rise::MoreWork };
            (end.at, end.speed, end.rose) = (now + left, speed, Some((now, reason)));
        } else {
            end.at += (left - said).min(passed.mul_f64(1.0 - SLOW_COUNTDOWN));
        }
        end.changed = now;
    }

    /// Returns the time left, and why it rose of late.
    pub(super) fn left(&self, now: Instant) -> Option<(Duration, Option<Rise>)> {
        let end = self.end.as_ref()?;
        let rose = end.rose.filter(|(at, _)| now.duration_since(*at) < REASON_FOR).map(|(_, reason)| reason);
        Some((end.at.saturating_duration_since(now), rose))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(200);

    /// Runs a job on a simulated clock and returns what was said at each tick, in seconds. `speed` is the work per second at a
    /// time in seconds.
    fn run(total: f64, speed: impl Fn(f64) -> f64) -> Vec<(f64, Option<f64>, Option<Rise>)> {
        let begun = Instant::now();
        let mut eta = Eta::new(begun, 0.0);
        let (mut done, mut ticks, mut said) = (0.0, 0_u32, Vec::new());
        while done < total {
            ticks += 1;
            let now = begun + TICK * ticks;
            let seconds = (TICK * ticks).as_secs_f64();
            done += speed(seconds) * TICK.as_secs_f64();
            eta.add(now, done, Some(total));
            let left = eta.left(now);
            said.push((seconds, left.map(|(left, _)| left.as_secs_f64()), left.and_then(|(_, rise)| rise)));
        }
        said
    }

    #[test]
    fn nothing_is_said_while_a_model_loads_and_in_the_first_seconds() {
        let said = run(1_000.0, |at| if at < 20.0 { 0.0 } else { 10.0 });
        let (at, left, _) = said.iter().find(|(_, left, _)| left.is_some()).unwrap();
        assert!((24.5..=25.5).contains(at), "{at}");
        assert!((left.unwrap() - 95.0).abs() < 3.0, "{left:?}");
    }

    /// Long texts are computed first in every chunk, at another speed than short ones.
    #[test]
    fn uneven_chunks_do_not_make_the_time_left_rise() {
        let said = run(10_000.0, |at| if at % 12.0 < 4.0 { 70.0 } else { 115.0 });
        let end = said.last().unwrap().0;
        let mut before = f64::INFINITY;
        for (at, left, rise) in said {
            let Some(left) = left else { continue };
            assert!(left <= before && rise.is_none(), "{left} s after {before} s at {at}");
            assert!((left - (end - at)).abs() <= 0.5 * end, "{left} s at {at} of {end}");
            before = left;
        }
    }

    #[test]
    fn the_time_left_rises_when_the_speed_falls_and_says_so() {
        let said = run(10_000.0, |at| if at < 40.0 { 100.0 } else { 15.0 });
        let rose = said.windows(2).find(|pair| pair[1].1 > pair[0].1 && pair[0].1.is_some()).unwrap();
        assert!(rose[1].0 > 40.0 && rose[1].2 == Some(Rise::Slower), "{rose:?}");
        let (at, left, _) = said[said.len() * 3 / 4];
        let really = said.last().unwrap().0 - at;
        assert!((left.unwrap() - really).abs() < 0.3 * really, "{left:?} of {really}");
    }

    #[test]
    fn more_work_than_expected_is_told_from_a_lower_speed() {
        let begun = Instant::now();
        let mut eta = Eta::new(begun, 0.0);
        for second in 1..=30 {
            let total = if second < 20 { 1_000.0 } else { 5_000.0 };
            eta.add(begun + Duration::from_secs(second), second as f64 * 10.0, Some(total));
        }
        let (left, rise) = eta.left(begun + Duration::from_secs(30)).unwrap();
        assert_eq!((left.as_secs().abs_diff(470) < 5, rise), (true, Some(Rise::MoreWork)), "{left:?}");
    }
}
