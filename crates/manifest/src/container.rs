//! What a manifest says of an agent that runs in a container: its image, what it needs of the machine, and in which form it
//! reads its input. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::escape::escape_untrusted;
use crate::manifest::{Events, Instances, Manifest, RuntimeKind};
use crate::pins::PinType;
use crate::reference;
use crate::units::ByteCount;

/// What a processor is divided into.
const MILLI: f64 = 1_000.0;
/// Processors that anybody asks for at most; more is a slip of the pen.
const MAX_CPUS: f64 = 1_024.0;
/// Thousandths of a processor that a container gets at least: the kernel gives out a millisecond in a hundred, and no less.
const MIN_CPUS: f64 = 10.0;
/// Memory that a container has at least: engines make none with less.
pub const MIN_CONTAINER_MEMORY: ByteCount = ByteCount(6 << 20);

/// Processor time per time, in thousandths of one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "String")]
pub struct MilliCpus(pub u32);

/// In which form an agent reads its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputForm {
    /// The bytes as they are.
    Bytes,
    /// One line of JSON, where the input is JSON.
    JsonLine,
}

impl FromStr for MilliCpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            let text = escape_untrusted(text, 40);
            format!("`{text}` is no number of processors, such as `500m`, `0.5` or `2`")
        };
        let (number, unit) = match text.strip_suffix('m') {
            Some(number) => (number, 1.0),
            None => (text, MILLI),
        };
        let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let number: f64 = number.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
        let milli = (number * unit).ceil();
        if milli < MIN_CPUS {
            let text = escape_untrusted(text, 40);
            return Err(format!("`{text}` is less than `{MIN_CPUS}m`, the least that the kernel gives out"));
        }
        if milli > MAX_CPUS * MILLI {
            return Err(wrong());
        }
        // Whole and within bounds, so that its digits are those of an integer.
        format!("{milli:.0}").parse().map(Self).map_err(|_| wrong())
    }
}

impl TryFrom<Value> for MilliCpus {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        cpus(&value)
    }
}

impl From<MilliCpus> for String {
    fn from(cpus: MilliCpus) -> Self {
        cpus.to_string()
    }
}

impl fmt::Display for MilliCpus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1_000) {
            (self.0 / 1_000).fmt(formatter)
        } else {
            write!(formatter, "{}m", self.0)
        }
    }
}

impl Manifest {
    /// Processors that the agent asks for by `resources.cpu`; `None` where it says nothing.
    #[must_use]
    pub fn cpus(&self) -> Option<MilliCpus> {
        cpus(self.resources.as_ref()?.cpu.as_ref()?).ok()
    }

    /// Memory that a container agent asks for by `resources.memory`. A module says it by `wasm.memory`, and what it says
    /// here is for people.
    #[must_use]
    pub fn container_memory(&self) -> Option<ByteCount> {
        if self.runtime_kind() != RuntimeKind::Container {
            return None;
        }
        memory(self.resources.as_ref()?.memory.as_ref()?).ok()
    }

    /// Whether the agent's program, in a container, reads one input after another: a line of JSON each, which it answers with
    /// a line. Of an agent that is a module, and whose image is executed in its place, that is said of the module alone.
    #[must_use]
    pub fn reads_many_inputs(&self) -> bool {
        self.runtime_kind() == RuntimeKind::Container
            && self.wasm.as_ref().and_then(|wasm| wasm.instances) == Some(Instances::Reuse)
    }

    /// In which form the agent reads its input, where it runs in a container: one line of JSON where it reports by the
    /// contract of MentatLab's agents, or all that it reads is text or JSON; else the bytes as they are.
    #[must_use]
    pub fn input_form(&self) -> InputForm {
        let is_text = |kind: PinType| {
            matches!(kind, PinType::String | PinType::Number | PinType::Boolean | PinType::Json)
        };
        let reads_text = !self.inputs.is_empty() || self.events == Some(Events::Ndjson);
        if reads_text && self.inputs.iter().all(|pin| is_text(pin.kind)) {
            InputForm::JsonLine
        } else {
            InputForm::Bytes
        }
    }
}

/// What no engine could make a container of, by the key that says it.
pub(crate) fn problems(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let is_container = manifest.runtime_kind() == RuntimeKind::Container;
    let resources = manifest.resources.as_ref();
    let processors = resources.and_then(|resources| resources.cpu.as_ref());
    let bytes = resources.and_then(|resources| resources.memory.as_ref());
    // In megabytes, and before the other. Of an agent that is both, it is said of the module, and may be less.
    let maximum = manifest.wasm.as_ref().and_then(|wasm| wasm.memory?.maximum).filter(|maximum| *maximum > 0);
    let maximum = maximum.map(|maximum| Value::String(format!("{maximum}MB")));
    let read = [
        ("image", manifest.image.as_deref().map(reference::image)),
        // What a module says is for people, unless there is an image that can be executed in its place.
        (
            "resources.cpu",
            processors
                .filter(|_| is_container || manifest.image.is_some())
                .map(|value| cpus(value).map(drop)),
        ),
        ("resources.memory", bytes.filter(|_| is_container).map(|value| memory(value).map(drop))),
        ("wasm.memory.maximum", maximum.filter(|_| is_container).map(|value| memory(&value).map(drop))),
    ];
    read.into_iter().filter_map(|(path, read)| Some((path, read?.err()?))).collect()
}

/// Reads processors, as a number or a text.
pub(crate) fn cpus(value: &Value) -> Result<MilliCpus, String> {
    plain(value).parse()
}

/// Reads memory, as a number of bytes or a text; `256Mi`, as Kubernetes writes it, is `256MiB`.
pub(crate) fn memory(value: &Value) -> Result<ByteCount, String> {
    let text = plain(value);
    let unit = if text.ends_with('i') { "B" } else { "" };
    let bytes: ByteCount = format!("{text}{unit}").parse().map_err(|_| {
        let text = escape_untrusted(&text, 40);
        format!("`{text}` is no number of bytes, such as `256Mi`, `64MB` or `1Gi`")
    })?;
    if bytes < MIN_CONTAINER_MEMORY {
        let text = escape_untrusted(&text, 40);
        return Err(format!(
            "`{text}` is less than {MIN_CONTAINER_MEMORY}, without which no engine makes a container"
        ));
    }
    Ok(bytes)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn manifest(rest: &str) -> Manifest {
        Manifest::parse(&format!("id: a.b\nversion: 1.0.0\nruntime: python3.12\nimage: x:1\n{rest}")).unwrap()
    }

    #[test]
    fn quantities_are_read_as_people_and_kubernetes_write_them() {
        for (value, milli) in [
            (json!("500m"), 500),
            (json!(2), 2_000),
            (json!(0.25), 250),
            (json!("1.5"), 1_500),
            (json!("10m"), 10),
        ] {
            assert_eq!(cpus(&value), Ok(MilliCpus(milli)), "{value}");
        }
        for value in [json!("0"), json!(-1), json!("1e3"), json!("many"), json!(""), json!("m"), json!(9e9)] {
            assert!(cpus(&value).is_err(), "{value}");
        }
        for value in [json!("1m"), json!("9m"), json!(0.001), json!("0")] {
            assert!(cpus(&value).unwrap_err().contains("less than `10m`"), "{value}");
        }
        for (value, bytes) in [
            (json!("256Mi"), 256 << 20),
            (json!("1Gi"), 1 << 30),
            (json!(6_291_456), 6 << 20),
            (json!("64MB"), 64 << 20),
        ] {
            assert_eq!(memory(&value), Ok(ByteCount(bytes)), "{value}");
        }
        for value in [json!("0"), json!(-1), json!("i"), json!("much"), json!(null)] {
            assert!(memory(&value).is_err(), "{value}");
        }
        for value in [json!("1Ki"), json!(4096), json!(6_291_455), json!("0")] {
            assert!(memory(&value).unwrap_err().contains("less than 6MB"), "{value}");
        }
    }

    #[test]
    fn an_agent_of_text_reads_a_line_and_any_other_bytes() {
        assert_eq!(manifest("").input_form(), InputForm::Bytes);
        assert_eq!(manifest("events: ndjson\n").input_form(), InputForm::JsonLine);
        assert_eq!(manifest("inputs: [{ name: a, type: json }]\n").input_form(), InputForm::JsonLine);
        let both = "inputs: [{ name: a, type: json }, { name: b, type: image }]\nevents: ndjson\n";
        assert_eq!(manifest(both).input_form(), InputForm::Bytes);
    }

    #[test]
    fn many_inputs_are_read_by_programs_in_containers_that_speak_in_lines() {
        let reuse = "events: ndjson\nwasm: { instances: reuse }\n";
        assert!(manifest(reuse).reads_many_inputs());
        assert!(!manifest("events: ndjson\n").reads_many_inputs());
        let module = format!("id: a.b\nversion: 1.0.0\nruntime: wasm\nimage: x:1\n{reuse}");
        assert!(!Manifest::parse(&module).unwrap().reads_many_inputs());
        for more in [
            "wasm: { instances: reuse }\n",
            "inputs: [{ name: a, type: image }]\nevents: ndjson\nwasm: { instances: reuse }\n",
        ] {
            let text = format!("id: a.b\nversion: 1.0.0\nruntime: container\nimage: x:1\n{more}");
            let refused = Manifest::parse(&text).unwrap_err().to_string();
            assert!(refused.contains("wasm.instances") && refused.contains("`events: ndjson`"), "{refused}");
        }
    }

    #[test]
    fn what_no_engine_would_make_is_told_by_its_key() {
        let problems = |text: &str| {
            let text = format!("id: a.b\nversion: 1.0.0\n{text}");
            let error = Manifest::parse(&text).unwrap_err();
            error.problems().iter().map(|problem| problem.path.clone()).collect::<Vec<_>>()
        };
        let little = "resources: { cpu: 1m, memory: 1Ki }\nwasm: { memory: { maximum: 5 } }\n";
        assert_eq!(
            problems(&format!("runtime: container\nimage: oci:x\n{little}")),
            ["image", "resources.cpu", "resources.memory", "wasm.memory.maximum"]
        );
        // An image that can be executed in place of a module has its processors from here, and its memory from the module's.
        assert_eq!(problems(&format!("runtime: wasm\nimage: x:1\n{little}")), ["resources.cpu"]);
        Manifest::parse(&format!("id: a.b\nversion: 1.0.0\nruntime: wasm\n{little}")).unwrap();
    }

    #[test]
    fn memory_is_a_budget_of_containers_alone() {
        let resources = "resources: { memory: 256Mi, cpu: 500m }\n";
        assert_eq!(manifest(resources).limits_request().memory_bytes, Some(ByteCount(256 << 20)));
        assert_eq!(manifest(resources).cpus(), Some(MilliCpus(500)));
        let module = format!("id: a.b\nversion: 1.0.0\nruntime: wasm\n{resources}");
        assert_eq!(Manifest::parse(&module).unwrap().limits_request().memory_bytes, None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let value = Value::String(text.clone());
            if let Ok(MilliCpus(milli)) = cpus(&value) {
                prop_assert_eq!(MilliCpus(milli).to_string().parse(), Ok(MilliCpus(milli)));
            }
            let _ = memory(&value);
        }
    }
}
