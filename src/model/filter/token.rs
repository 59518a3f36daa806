//! What the lexers of both languages are made of: tokens that know where they stand, and the characters to
//! come.

use std::{iter::Peekable, str::Chars};

/// A token of a language, and the character at which it begins, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token<K> {
    pub(super) at: usize,
    pub(super) kind: K,
}

/// The characters of a text that are still to come.
pub(super) struct Characters<'a> {
    rest: Peekable<Chars<'a>>,
    at: usize,
}

impl<'a> Characters<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable(), at: 1 }
    }

    /// Where the next character stands, from 1.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    pub(super) fn take(&mut self) -> Option<char> {
        self.take_if(|_| true)
    }

    pub(super) fn take_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        let c = self.rest.next_if(|c| wanted(*c))?;
        self.at += 1;
        Some(c)
    }

    /// As many characters as are wanted.
    pub(super) fn run(&mut self, wanted: impl Fn(char) -> bool + Copy) -> String {
        std::iter::from_fn(|| self.take_if(wanted)).collect()
    }

    pub(super) fn skip_whitespace(&mut self) {
        while self.take_if(char::is_whitespace).is_some() {}
    }
}
