//! Sentences for people, which quote what was seen.

use std::borrow::Cow;

use sensor_proto::v1;

use super::{Field, Policy, process::joined};
use crate::privacy::{
    pseudonym::{Kind, is_system},
    redact::{self, MARK},
};

/// What is known of the processes that a sentence is about: it may quote their arguments without what tells a secret there.
#[derive(Debug, Default)]
pub(super) struct Known {
    secrets: Vec<String>,
    users: Vec<String>,
}

/// Processes that are looked at for one sentence.
const PROCESSES: usize = 64;

impl Known {
    pub(super) fn of<'p>(processes: impl Iterator<Item = &'p v1::Process>) -> Self {
        let mut known = Self::default();
        for process in processes.take(PROCESSES) {
            let args = joined(process);
            let secrets = redact::secrets(&args).map(|secret| String::from_utf8_lossy(secret).into_owned());
            known.secrets.extend(secrets);
            if !process.user.is_empty() && !is_system(process.uid) {
                known.users.push(process.user.clone());
            }
        }
        for all in [&mut known.secrets, &mut known.users] {
            // One that holds another goes first.
            all.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
            all.dedup();
        }
        known
    }
}

impl Policy {
    pub(super) fn sentences(&self, sentences: &mut Vec<String>, known: &Known) {
        if self.drops(Field::Reasons) {
            sentences.clear();
        }
        for sentence in sentences {
            self.sentence(sentence, known);
        }
    }

    pub(super) fn sentence(&self, sentence: &mut String, known: &Known) {
        if sentence.is_empty() {
            return;
        }
        if self.redact {
            for secret in known
                .secrets
                .iter()
                .filter(|secret| !MARK.contains(secret.as_str()))
            {
                if sentence.contains(secret) {
                    *sentence = sentence.replace(secret, MARK);
                }
            }
            if let Cow::Owned(shown) = redact::text(sentence.as_bytes()) {
                *sentence = String::from_utf8_lossy(&shown).into_owned();
            }
        }
        if let Some(names) = &self.pseudonyms {
            *sentence = names.text(sentence);
        }
        if let Some(names) = self.names(Kind::Users) {
            for user in &known.users {
                *sentence = replace_word(sentence, user, &names.user(user));
            }
        }
    }
}

/// `text`, with `new` in the place of `word` wherever it stands as a word.
pub(super) fn replace_word(text: &str, word: &str, new: &str) -> String {
    let is_part = |character: Option<char>| {
        character.is_some_and(|character| character.is_alphanumeric() || matches!(character, '_' | '-'))
    };
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in text.match_indices(word) {
        let end = at + word.len();
        if !is_part(text[..at].chars().next_back()) && !is_part(text[end..].chars().next()) {
            shown.push_str(&text[from..at]);
            shown.push_str(new);
            from = end;
        }
    }
    shown.push_str(&text[from..]);
    shown
}
