//! Parameters: numbers, switches, choices and buttons that viewers move, and the loop reads.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use serde_json::Value;

use crate::hub::primitives::lock::Lock;
use crate::progress::base::Base;
use crate::progress::line::{Object, write_number, write_text};
use crate::progress::log::{Level, LogLine};
use crate::progress::text::{MESSAGE_MAX, TITLE_MAX, one_line, within};

/// The most parameters that are shown. The loop can read one more, but no viewer sees or moves it
/// until another goes.
pub(crate) const PARAMETERS_MAX: usize = 256;

/// A value that a [`Parameter`] may have: `f64` or `bool`.
pub trait ParameterValue: sealed::Value {}
impl ParameterValue for f64 {}
impl ParameterValue for bool {}

mod sealed {
    pub trait Value: Copy {
        const KIND: super::Kind;
        fn into_bits(self) -> u64;
        fn from_bits(bits: u64) -> Self;
    }

    impl Value for f64 {
        const KIND: super::Kind = super::Kind::Number;
        fn into_bits(self) -> u64 {
            self.to_bits()
        }
        fn from_bits(bits: u64) -> Self {
            Self::from_bits(bits)
        }
    }

    impl Value for bool {
        const KIND: super::Kind = super::Kind::Switch;
        fn into_bits(self) -> u64 {
            self.into()
        }
        fn from_bits(bits: u64) -> Self {
            bits != 0
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum Kind {
    Number,
    Switch,
    Choice,
    Button,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Switch => "switch",
            Self::Choice => "choice",
            Self::Button => "button",
        }
    }
}

/// What one parameter is, and its value.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) id: u64,
    name: Box<str>,
    kind: Kind,
    /// The names that a choice is among.
    names: Box<[Box<str>]>,
    bits: AtomicU64,
    changes: AtomicU32,
    rest: Lock<Rest>,
    base: Arc<Base>,
}

#[derive(Debug)]
struct Rest {
    min: f64,
    max: f64,
    step: Option<f64>,
    unit: Cow<'static, str>,
    /// Who set the value last, and when, in milliseconds since 1970.
    by: Option<(String, u64)>,
    /// What viewers have done that the log does not say yet.
    moves: Option<Moves>,
    /// When the log last said what viewers have done, in milliseconds since 1970.
    said: u64,
    is_shown: bool,
    is_gone: bool,
}

/// What viewers have done since the log last said so.
#[derive(Debug)]
struct Moves {
    /// The bits of the value before, and of the last one.
    from: u64,
    to: u64,
    count: u64,
    /// Who did so last, and whether others had a part in that.
    by: String,
    is_of_many: bool,
}

/// The time between two lines of the log about one parameter, in milliseconds. What viewers do
/// meanwhile is one line, so that a viewer cannot push the program's lines out of the log.
const SAID_EVERY: u64 = 1000;

impl State {
    fn new(
        base: &Arc<Base>,
        name: Cow<'static, str>,
        kind: Kind,
        names: Box<[Box<str>]>,
        bits: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: base.next_id(),
            name: one_line(name, TITLE_MAX).into_owned().into(),
            kind,
            names,
            bits: AtomicU64::new(bits),
            changes: AtomicU32::new(1),
            rest: Lock::new(Rest {
                min: f64::NEG_INFINITY,
                max: f64::INFINITY,
                step: None,
                unit: Cow::Borrowed(""),
                by: None,
                moves: None,
                said: 0,
                is_shown: false,
                is_gone: false,
            }),
            base: Arc::clone(base),
        })
    }

    /// A number that another change makes another.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.rest.lock().is_gone
    }

    /// Sets the range. A viewer may have set a value before there was one.
    fn set_range(&self, min: f64, max: f64) {
        self.change(|rest| {
            (rest.min, rest.max) = (min, max);
            if rest.by.is_some() {
                let value = f64::from_bits(self.bits.load(Ordering::Relaxed));
                self.bits.store(value.min(max).max(min).to_bits(), Ordering::Relaxed);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Rest)) {
        if self.base.process.is_another() {
            return;
        }
        let mut rest = self.rest.lock();
        change(&mut rest);
        let is_shown = rest.is_shown;
        drop(rest);
        self.changes.fetch_add(1, Ordering::Release);
        if is_shown {
            self.base.wake();
        }
    }

    /// Has viewers see the parameter from the next sample on.
    pub(crate) fn show(&self) {
        self.rest.lock().is_shown = true;
    }

    fn write_value(&self, bits: u64, out: &mut Vec<u8>) {
        match self.kind {
            Kind::Number => write_number(out, f64::from_bits(bits)),
            Kind::Switch => out.extend_from_slice(if bits == 0 { b"false" } else { b"true" }),
            Kind::Choice => write_text(out, self.name_of(bits)),
            Kind::Button => write_number(out, bits as f64),
        }
    }

    fn name_of(&self, bits: u64) -> &str {
        usize::try_from(bits).ok().and_then(|place| self.names.get(place)).map_or("", |name| name)
    }

    fn shown(&self, bits: u64) -> String {
        let mut out = Vec::new();
        self.write_value(bits, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Writes the parameter's line.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let rest = self.rest.lock();
        let mut line = Object::begin(out, "parameter");
        line.whole("id", self.id);
        line.text("name", &self.name);
        line.text("kind", self.kind.name());
        line.json("value", &self.shown(self.bits.load(Ordering::Relaxed)));
        for (name, bound) in [("min", rest.min), ("max", rest.max)] {
            if bound.is_finite() {
                line.number(name, bound);
            }
        }
        if let Some(step) = rest.step {
            line.number("step", step);
        }
        if !rest.unit.is_empty() {
            line.text("unit", &rest.unit);
        }
        if self.kind == Kind::Choice {
            line.texts("names", &self.names);
        }
        if let Some((by, at)) = &rest.by {
            line.text("by", by);
            line.whole("at", *at);
        }
        line.end();
    }

    /// Sets the value as a viewer asks for, and notes who did.
    ///
    /// # Errors
    ///
    /// What is expected in place of the value.
    pub(crate) fn set(&self, value: &Value, by: &str) -> Result<(), String> {
        let now = self.base.unix(self.base.now());
        let mut rest = self.rest.lock();
        let to = self.bits_of(value, &rest)?;
        let from = if self.kind == Kind::Button {
            self.bits.fetch_add(1, Ordering::Relaxed)
        } else {
            self.bits.swap(to, Ordering::Relaxed)
        };
        if from == to && self.kind != Kind::Button {
            return Ok(()); // nobody has changed anything
        }
        rest.by = Some((by.to_owned(), now));
        rest.moves = Some(match rest.moves.take() {
            None => Moves { from, to, count: 1, by: by.to_owned(), is_of_many: false },
            Some(moves) => Moves {
                to,
                count: moves.count + 1,
                is_of_many: moves.is_of_many || moves.by != by,
                by: by.to_owned(),
                ..moves
            },
        });
        drop(rest);
        self.changes.fetch_add(1, Ordering::Release);
        self.base.wake();
        Ok(())
    }

    /// Returns the line of the log about what viewers have done, if there is one to be written now
    /// or, `at_once`, at all.
    pub(crate) fn say(&self, at_once: bool) -> Option<LogLine> {
        let now = self.base.unix(self.base.now());
        let mut rest = self.rest.lock();
        let is_due = at_once || rest.is_gone || now.saturating_sub(rest.said) >= SAID_EVERY;
        let moves = rest.moves.take_if(|_| is_due)?;
        rest.said = now;
        drop(rest);
        let (name, Moves { from, to, count, by, is_of_many }) = (&self.name, moves);
        let others = if is_of_many { " and others" } else { "" };
        let text = match (self.kind, count) {
            (Kind::Button, 1) => format!("{name}: pressed by {by}"),
            (Kind::Button, _) => format!("{name}: pressed {count} times, by {by}{others}"),
            _ => {
                let steps = if count > 1 { format!(", in {count} steps") } else { String::new() };
                let (from, to) = (self.shown(from), self.shown(to));
                format!("{name}: {from} -> {to}, by {by}{others}{steps}")
            }
        };
        Some(LogLine::new(now, Level::Info, None, text.into()))
    }

    /// Whether the log does not say yet what viewers have done.
    pub(crate) fn has_to_say(&self) -> bool {
        self.rest.lock().moves.is_some()
    }

    fn bits_of(&self, value: &Value, rest: &Rest) -> Result<u64, String> {
        match (self.kind, value) {
            (Kind::Number, Value::Number(number)) => {
                let number = number.as_f64().unwrap_or(f64::NAN);
                if number >= rest.min && number <= rest.max && number.is_finite() {
                    return Ok(number.to_bits());
                }
                Err(format!("expected a number from {} to {}, got {number}", rest.min, rest.max))
            }
            (Kind::Switch, Value::Bool(on)) => Ok((*on).into()),
            (Kind::Choice, Value::String(name)) => {
                let place = self.names.iter().position(|known| **known == **name);
                let what = || {
                    let names = format!("expected one of {}", self.names.join(", "));
                    within(names.into(), MESSAGE_MAX / 16).into_owned()
                };
                place.map(|place| place as u64).ok_or_else(what)
            }
            (Kind::Button, _) => Ok(0),
            (Kind::Number, _) => Err("expected a number".to_owned()),
            (Kind::Switch, _) => Err("expected true or false".to_owned()),
            (Kind::Choice, _) => Err("expected a name".to_owned()),
        }
    }
}

/// The program's handle: the parameter goes from the viewers' pages with the last one.
#[derive(Debug)]
struct Handle(Arc<State>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.change(|rest| rest.is_gone = true);
    }
}

/// A number or a switch that viewers move and the loop reads: see
/// [`Hub::parameter`](crate::Hub::parameter).
///
/// A clone means the same parameter. When the last is dropped, viewers no longer see it.
///
/// ```
/// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let feed_rate = hub.parameter("feed rate", 0.04).range(0.0..=0.1);
/// for _ in 0..100 {
///     let _f = feed_rate.get(); // one relaxed load
///     // model.step(f);
/// }
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Parameter<T> {
    /// Where nobody can move it: the value.
    fixed: u64,
    handle: Option<Arc<Handle>>,
    value: PhantomData<T>,
}

impl<T: ParameterValue> Parameter<T> {
    pub(crate) fn state(&self) -> Option<&Arc<State>> {
        self.handle.as_ref().map(|handle| &handle.0)
    }

    pub(crate) fn new(base: Option<&Arc<Base>>, name: Cow<'static, str>, value: T) -> Self {
        let bits = value.into_bits();
        let handle = base
            .map(|base| Arc::new(Handle(State::new(base, name, T::KIND, Box::default(), bits))));
        Self { fixed: bits, handle, value: PhantomData }
    }

    /// Returns the value: one relaxed load.
    ///
    /// ```
    /// assert_eq!(stepcast::Hub::disabled().parameter("feed rate", 0.04).get(), 0.04);
    /// ```
    #[inline]
    pub fn get(&self) -> T {
        let bits = self.handle.as_ref().map(|handle| handle.0.bits.load(Ordering::Relaxed));
        T::from_bits(bits.unwrap_or(self.fixed))
    }

    /// Sets the value from the program, out of range too.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let is_on = hub.parameter("limiter", true);
    /// is_on.set(false);
    /// assert!(!is_on.get());
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn set(&self, value: T) {
        if let Some(handle) = &self.handle {
            handle.0.bits.store(value.into_bits(), Ordering::Relaxed);
            handle.0.change(|rest| rest.by = None);
        }
    }

    fn change(self, change: impl FnOnce(&mut Rest)) -> Self {
        if let Some(handle) = &self.handle {
            handle.0.change(change);
        }
        self
    }
}

impl Parameter<f64> {
    /// Sets the range that viewers can choose from. A value out of range is refused, with the
    /// reason for the viewer. Default: any number that is finite.
    ///
    /// ```
    /// let f = stepcast::Hub::disabled().parameter("feed rate", 0.04).range(0.0..=0.1);
    /// ```
    #[must_use]
    pub fn range(self, range: RangeInclusive<f64>) -> Self {
        let (min, max) = range.into_inner();
        if let Some(handle) = &self.handle {
            handle.0.set_range(min, max);
        }
        self
    }

    /// Sets the step of the slider. Other values within the range may be typed.
    ///
    /// ```
    /// let f = stepcast::Hub::disabled().parameter("feed rate", 0.04).range(0.0..=0.1).step(0.001);
    /// ```
    #[must_use]
    pub fn step(self, step: f64) -> Self {
        self.change(|rest| rest.step = Some(step).filter(|step| step.is_finite() && *step > 0.0))
    }

    /// Sets the unit, up to 256 bytes.
    ///
    /// ```
    /// let dt = stepcast::Hub::disabled().parameter("time step", 0.5).unit("s");
    /// ```
    #[must_use]
    pub fn unit(self, unit: impl Into<Cow<'static, str>>) -> Self {
        let unit = one_line(unit.into(), TITLE_MAX);
        self.change(|rest| rest.unit = unit)
    }
}

/// A choice among names that viewers make: see [`Hub::choice`](crate::Hub::choice).
///
/// ```
/// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let scheme = hub.choice("scheme", ["euler", "rk4"]);
/// match scheme.get() {
///     0 => { /* euler.step() */ }
///     _ => { /* rk4.step() */ }
/// }
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Choice {
    handle: Option<Arc<Handle>>,
}

impl Choice {
    pub(crate) fn state(&self) -> Option<&Arc<State>> {
        self.handle.as_ref().map(|handle| &handle.0)
    }

    pub(crate) fn new(
        base: Option<&Arc<Base>>,
        name: Cow<'static, str>,
        names: Box<[Box<str>]>,
    ) -> Self {
        let make = |base| Arc::new(Handle(State::new(base, name, Kind::Choice, names, 0)));
        Self { handle: base.map(make) }
    }

    /// Returns the place of the chosen name among the names: one relaxed load. It begins with 0.
    ///
    /// ```
    /// assert_eq!(stepcast::Hub::disabled().choice("scheme", ["euler", "rk4"]).get(), 0);
    /// ```
    #[inline]
    pub fn get(&self) -> usize {
        let bits = self.handle.as_ref().map(|handle| handle.0.bits.load(Ordering::Relaxed));
        bits.and_then(|bits| usize::try_from(bits).ok()).unwrap_or(0)
    }

    /// Sets the choice from the program. A place without a name is ignored.
    ///
    /// ```
    /// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
    /// let scheme = hub.choice("scheme", ["euler", "rk4"]);
    /// scheme.set(1);
    /// assert_eq!(scheme.get(), 1);
    /// # Ok::<(), stepcast::SpawnError>(())
    /// ```
    pub fn set(&self, place: usize) {
        if let Some(handle) = self.handle.as_ref().filter(|h| place < h.0.names.len()) {
            handle.0.bits.store(place as u64, Ordering::Relaxed);
            handle.0.change(|rest| rest.by = None);
        }
    }
}

/// A button that viewers press: see [`Hub::button`](crate::Hub::button).
///
/// ```
/// # let hub = stepcast::Hub::spawn_blocking("127.0.0.1:0")?;
/// let checkpoint = hub.button("write a checkpoint");
/// for _ in 0..100 {
///     if checkpoint.pressed() {
///         // model.write();
///     }
/// }
/// # Ok::<(), stepcast::SpawnError>(())
/// ```
#[derive(Debug)]
pub struct Button {
    handle: Option<Arc<Handle>>,
    /// The presses that were seen.
    seen: AtomicU64,
}

impl Button {
    pub(crate) fn state(&self) -> Option<&Arc<State>> {
        self.handle.as_ref().map(|handle| &handle.0)
    }

    pub(crate) fn new(base: Option<&Arc<Base>>, name: Cow<'static, str>) -> Self {
        let make = |base| Arc::new(Handle(State::new(base, name, Kind::Button, Box::default(), 0)));
        Self { handle: base.map(make), seen: AtomicU64::new(0) }
    }

    /// Whether the button was pressed since the last call: one relaxed load, unless it was.
    ///
    /// ```
    /// assert!(!stepcast::Hub::disabled().button("write a checkpoint").pressed());
    /// ```
    #[inline]
    pub fn pressed(&self) -> bool {
        let Some(handle) = &self.handle else { return false };
        let count = handle.0.bits.load(Ordering::Relaxed);
        count != self.seen.load(Ordering::Relaxed)
            && self.seen.swap(count, Ordering::Relaxed) != count
    }
}
