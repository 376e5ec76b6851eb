//! The page of every code: what happened, what was done, what to try. The text comes from
//! `docs/codes.md`, which is part of the binary.

use std::fmt;
use std::sync::LazyLock;

use serde::Serialize;

use crate::suggest;

const PAGES: &str = include_str!("../../docs/codes.md");

/// The page of a code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Page {
    /// The code.
    pub code: &'static str,
    /// Title.
    pub title: &'static str,
    /// Cause.
    pub happened: &'static str,
    /// Reaction of Nave.
    pub done: &'static str,
    /// Advice for the user.
    pub try_this: &'static str,
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {}", self.code, self.title)?;
        for (what, text) in
            [("what happened", self.happened), ("what was done", self.done), ("what to try", self.try_this)]
        {
            writeln!(f, "  {what:<15} {}", wrapped(text).join("\n                  "))?;
        }
        Ok(())
    }
}

/// Wraps a text at 90 characters, so that a page fits a terminal.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= 90 {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// An unknown code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownCode(String);

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = crate::program::name();
        write!(f, "no code `{}`", self.0)?;
        let digits: String = self.0.chars().filter(char::is_ascii_digit).collect();
        let given: i64 = digits.parse().unwrap_or(i64::MAX);
        let number = |page: &&Page| page.code[5..].parse::<i64>().unwrap_or_default();
        let nearest = pages().iter().min_by_key(|page| (number(page) - given).abs()).map(|page| page.code);
        let similar = || suggest::nearest(&self.0.to_uppercase(), pages().iter().map(|page| page.code));
        match nearest.filter(|_| !digits.is_empty()).or_else(similar) {
            Some(near) => write!(f, "; nearest is {near}; {program} explain lists all codes"),
            None => write!(f, "; codes look like NAVE-0101; {program} explain lists all codes"),
        }
    }
}

impl std::error::Error for UnknownCode {}

/// Returns all pages, by code.
pub(crate) fn pages() -> &'static [Page] {
    static PARSED: LazyLock<Vec<Page>> = LazyLock::new(|| PAGES.split("\n## ").skip(1).filter_map(parsed).collect());
    &PARSED
}

/// Returns the page of a code. `NAVE-0101`, `nave-101` and `101` are the same.
///
/// # Errors
/// If there is no such code; the error names a near one.
pub(crate) fn page(code: &str) -> Result<&'static Page, UnknownCode> {
    let digits = code.trim().to_uppercase();
    let digits = digits.strip_prefix("NAVE-").unwrap_or(&digits);
    let wanted = digits.parse::<u32>().map(|number| format!("NAVE-{number:04}"));
    let known = wanted.ok().and_then(|wanted| pages().iter().find(|page| page.code == wanted));
    known.ok_or_else(|| UnknownCode(code.trim().to_owned()))
}

/// Parses a page of the file: a heading of code and title, then three sections, each after its bold
/// label.
fn parsed(text: &'static str) -> Option<Page> {
    let (heading, text) = text.split_once('\n')?;
    let (code, title) = heading.split_once(": ")?;
    let section = |name: &str| {
        let text = text.split_once(&format!("**{name}**")).map_or("", |(_, rest)| rest);
        text.split("**What").next().unwrap_or("").trim()
    };
    Some(Page {
        code,
        title: title.trim(),
        happened: section("What happened."),
        done: section("What was done."),
        try_this: section("What to try."),
    })
}

#[cfg(test)]
mod tests {
    use wire::Code;

    use super::*;

    #[test]
    fn every_code_has_a_complete_page_and_every_page_has_a_code() {
        let codes: Vec<&Code> = Code::ALL.iter().chain(flow_messages::codes::ALL).collect();
        for code in &codes {
            let page = page(code.as_str()).unwrap_or_else(|unknown| panic!("{unknown}"));
            assert_eq!(page.title, code.title(), "{code}");
            for (what, text) in [("happened", page.happened), ("done", page.done), ("try", page.try_this)] {
                assert!(text.len() > 15, "{code}: `{what}` is empty");
            }
        }
        let headings = PAGES.lines().filter(|line| line.starts_with("## ")).count();
        assert_eq!(
            (headings, pages().len()),
            (codes.len(), codes.len()),
            "a page without a code, or two pages of one code"
        );
    }

    #[test]
    fn any_spelling_of_a_code_finds_it_and_a_wrong_one_gets_a_suggestion() {
        for written in ["NAVE-0101", "nave-0101", "101", " 0101 "] {
            assert_eq!(page(written).map(|page| page.code), Ok("NAVE-0101"), "{written}");
        }
        assert!(page("NAVE-0199").unwrap_err().to_string().contains("nearest is NAVE-010"));
        assert!(page("nonsense").unwrap_err().to_string().contains("codes look like"));
    }
}
