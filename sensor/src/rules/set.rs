//! A set of rules that is in use at once: put together whole, checked, then never changed.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
    sync::Arc,
};

use rsigma_parser::{CorrelationRule, SigmaRule};

use super::{
    Channel, Channels, Document, Engine, Fault, Kind, Level, PACK, Place, Reach, Rule, Source, named::named,
    parse, read, sigma::Builder,
};
use crate::config;

/// A rule of a set, in use or not.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Which.
    pub rule: Arc<Rule>,
    /// Whether it is in use.
    pub active: bool,
    /// Why not, or why only in part.
    pub why: Option<String>,
    /// Executables whose paths alone make it match.
    pub named: Vec<PathBuf>,
}

/// Why a rule is not in use that the configuration has disabled.
pub const DISABLED: &str = "it is disabled";

/// Rules, ready for events.
#[derive(Debug)]
pub struct RuleSet {
    /// What events are shown to.
    pub engine: Box<dyn Engine>,
    /// Log sources that some rule is for.
    pub channels: Channels,
    /// Every rule that was read, in the order of the files.
    pub rules: Vec<Loaded>,
    /// What is wrong with those that could not be.
    pub faults: Vec<Fault>,
    /// The same for the same texts and configuration, as long as the agent runs.
    pub fingerprint: u64,
}

impl RuleSet {
    /// What a configuration asks for.
    #[must_use]
    pub fn load(config: &config::Rules) -> Self {
        Self::compile(config, Written::read(config))
    }

    /// The same, or `None` if it has this fingerprint: what is written has not changed.
    #[must_use]
    pub fn load_changed(config: &config::Rules, fingerprint: u64) -> Option<Self> {
        let written = Written::read(config);
        (written.fingerprint != fingerprint).then(|| Self::compile(config, written))
    }

    fn compile(config: &config::Rules, written: Written) -> Self {
        let mut set = Self::build(&written.sources, &config.disable);
        set.fingerprint = written.fingerprint;
        set.faults.splice(0..0, written.faults);
        let is_there = |name: &str| {
            let mut rules = set.rules.iter();
            rules.any(|loaded| *loaded.rule.id == *name || *loaded.rule.title == *name)
        };
        let absent: Vec<_> = config.disable.iter().filter(|name| !is_there(name)).collect();
        for name in absent {
            tracing::warn!("[rules] disable: there is no rule {name:?}; `sensor rules list` shows all");
        }
        set
    }

    /// The rules of these files, but for those whose id or title is in `disabled`.
    #[must_use]
    pub fn build(sources: &[Source], disabled: &[String]) -> Self {
        let mut parts = Parts {
            disabled,
            builder: Builder::default(),
            seen: HashSet::new(),
            channels: Channels::default(),
            rules: Vec::new(),
            faults: Vec::new(),
        };
        let mut correlations = Vec::new();
        for source in sources {
            let (documents, faults) = parse(source);
            parts.faults.extend(faults);
            for document in documents {
                match &document.kind {
                    Kind::Rule(rule) => parts.rule(&document, rule),
                    Kind::Correlation(_) => correlations.push(document),
                    Kind::Filter(filter) => parts.builder.filter((**filter).clone()),
                }
            }
        }
        parts.correlations(correlations);
        parts.finish()
    }

    /// How many rules are in use.
    #[must_use]
    pub fn active(&self) -> usize {
        self.rules.iter().filter(|loaded| loaded.active).count()
    }

    /// Executables that rules name by their paths alone, with the rule.
    pub fn named(&self) -> impl Iterator<Item = (&PathBuf, &Arc<Rule>)> {
        let rules = self.rules.iter();
        rules.flat_map(|loaded| loaded.named.iter().map(|path| (path, &loaded.rule)))
    }

    /// What is wrong with rules that are therefore not in use.
    pub fn errors(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| !fault.harmless)
    }
}

/// Rules that are not compiled yet.
struct Written {
    sources: Vec<Source>,
    /// What could not be read.
    faults: Vec<Fault>,
    fingerprint: u64,
}

impl Written {
    fn read(config: &config::Rules) -> Self {
        let (mut sources, faults) = read(&config.paths);
        if config.builtin {
            sources.splice(0..0, builtin());
        }
        let mut hasher = DefaultHasher::new();
        (&sources, &config.disable).hash(&mut hasher);
        for fault in &faults {
            fault.to_string().hash(&mut hasher);
        }
        Self {
            sources,
            faults,
            fingerprint: hasher.finish(),
        }
    }
}

/// The rules that the agent brings along.
pub fn builtin() -> impl Iterator<Item = Source> {
    PACK.iter().map(|(file, text)| Source {
        file: format!("built-in/{file}").into(),
        text: (*text).to_owned(),
    })
}

/// A set that is being put together.
struct Parts<'a> {
    disabled: &'a [String],
    builder: Builder,
    seen: HashSet<Box<str>>,
    channels: Channels,
    rules: Vec<Loaded>,
    faults: Vec<Fault>,
}

impl Parts<'_> {
    fn rule(&mut self, document: &Document, rule: &SigmaRule) {
        let (channels, why) = match Channels::of_rule(&rule.logsource) {
            Ok(channels) => placed(rule, channels),
            Err(why) => (Channels::default(), Some(format!("it cannot match: {why}"))),
        };
        let about = Arc::new(about_rule(rule, &document.place, channels));
        if !self.is_new(&about, document) {
            return;
        }
        if self.is_disabled(&about) {
            return self.list(about, false, Some(DISABLED.into()));
        }
        if channels.is_empty() {
            return self.list(about, false, why);
        }
        match self.builder.rule(rule.clone(), &about, channels) {
            Ok(()) => {
                self.channels = self.channels.and(channels);
                self.list(about, true, why);
                if let Some(loaded) = self.rules.last_mut()
                    && channels.contains(Channel::ProcessCreation)
                {
                    loaded.named = named(&rule.detection);
                }
            }
            Err(message) => self.faults.push(document.fault(&message)),
        }
    }

    /// Correlations come when the rules are there that they refer to; and those first that others refer to.
    fn correlations(&mut self, mut waiting: Vec<Document>) {
        loop {
            let before = waiting.len();
            waiting.retain(|document| {
                let Kind::Correlation(rule) = &document.kind else {
                    return false;
                };
                let is_ready = rule.rules.iter().all(|name| self.builder.refers(name));
                if is_ready {
                    self.correlation(document, rule);
                }
                !is_ready
            });
            if waiting.len() == before {
                break;
            }
        }
        for document in waiting {
            if let Kind::Correlation(rule) = &document.kind {
                self.dangling(&document, rule);
            }
        }
    }

    fn correlation(&mut self, document: &Document, rule: &CorrelationRule) {
        let about = Arc::new(about_correlation(rule, &document.place));
        if !self.is_new(&about, document) {
            return;
        }
        if self.is_disabled(&about) {
            return self.list(about, false, Some("it is disabled".into()));
        }
        match self.builder.correlation(rule.clone(), &about) {
            Ok(()) => self.list(about, true, None),
            Err(message) => self.faults.push(document.fault(&message)),
        }
    }

    /// A rule that it refers to is not in use, or not there at all.
    fn dangling(&mut self, document: &Document, rule: &CorrelationRule) {
        let Some(name) = rule.rules.iter().find(|name| !self.builder.refers(name)) else {
            return;
        };
        let is_known = self.rules.iter().any(|loaded| *loaded.rule.id == **name);
        let about = Arc::new(about_correlation(rule, &document.place));
        if is_known {
            let why = format!("it cannot match: the rule {name} that it refers to is not in use");
            self.list(about, false, Some(why));
        } else {
            let message = format!("unknown rule reference: '{name}'");
            self.faults.push(document.fault(&message));
        }
    }

    fn is_new(&mut self, about: &Rule, document: &Document) -> bool {
        let is_new = self.seen.insert(about.id.clone());
        if !is_new {
            let first = self.rules.iter().find(|loaded| loaded.rule.id == about.id);
            let first = first.map_or_else(
                || "another rule".to_owned(),
                |loaded| loaded.rule.place.to_string(),
            );
            self.faults.push(Fault {
                place: document.place.clone(),
                message: format!("its id '{}' is that of {first}", about.id),
                remedy: "give it an id of its own; a UUID is usual".into(),
                harmless: false,
            });
        }
        is_new
    }

    fn is_disabled(&self, about: &Rule) -> bool {
        let mut disabled = self.disabled.iter();
        disabled.any(|name| **name == *about.id || **name == *about.title)
    }

    fn list(&mut self, rule: Arc<Rule>, active: bool, why: Option<String>) {
        self.rules.push(Loaded {
            rule,
            active,
            why,
            named: Vec::new(),
        });
    }

    fn finish(mut self) -> RuleSet {
        // A filter makes rules ask for more, and what serves a correlation is not told by itself.
        let (has_filters, silent) = (self.builder.has_filters(), self.builder.silent());
        for loaded in &mut self.rules {
            if has_filters || silent.contains(&*loaded.rule.id) {
                loaded.named.clear();
            }
        }
        let (engine, messages) = self.builder.build();
        self.faults.extend(messages.into_iter().map(|message| Fault {
            place: Place {
                file: "rules".into(),
                line: 0,
            },
            message,
            remedy: "correct it or leave it out".into(),
            harmless: false,
        }));
        RuleSet {
            engine: Box::new(engine),
            channels: self.channels,
            rules: self.rules,
            faults: self.faults,
            fingerprint: 0,
        }
    }
}

/// Where a rule is looked up, if it can match there, and why not. What asks for answers of name servers waits for those.
fn placed(rule: &SigmaRule, channels: Channels) -> (Channels, Option<String>) {
    let Some(channel) = channels.iter().next() else {
        return (channels, None);
    };
    let mut reach = Reach::of(&rule.detection, channel);
    let mut placed = channels;
    if channel == Channel::DnsQuery && reach.never {
        reach = Reach::of(&rule.detection, Channel::DnsAnswer);
        placed = Channels::of(&[Channel::DnsAnswer]);
    }
    if reach.never {
        placed = Channels::default();
    }
    (placed, reach.why())
}

/// What rules and correlations say of themselves: two types of the library, with the same fields.
macro_rules! about {
    ($rule:ident, $place:ident, $channels:expr) => {{
        let (techniques, tactics) = Rule::attack(&$rule.tags);
        let false_positives = $rule.falsepositives.iter();
        Rule {
            id: $rule.id.as_ref().unwrap_or(&$rule.title).as_str().into(),
            title: $rule.title.as_str().into(),
            level: Level::of($rule.level),
            description: one_line($rule.description.as_deref()),
            false_positives: false_positives.map(|text| one_line(Some(text))).collect(),
            techniques,
            tactics,
            place: $place.clone(),
            channels: $channels,
        }
    }};
}

fn about_rule(rule: &SigmaRule, place: &Place, channels: Channels) -> Rule {
    about!(rule, place, channels)
}

fn about_correlation(rule: &CorrelationRule, place: &Place) -> Rule {
    about!(rule, place, Channels::default())
}

/// Folded texts of YAML, in one line.
fn one_line(text: Option<&str>) -> Box<str> {
    let words: Vec<_> = text.unwrap_or_default().split_whitespace().collect();
    words.join(" ").into()
}
