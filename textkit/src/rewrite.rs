//! Small edits to a template's source where minijinja's language differs from Jinja's on Python:
//! `a ~ b` joins what Python would print, `(a, b)` is a tuple, `1 and 0` is 0, and `{% generation %}` is a tag.

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Word,
    Literal,
    Operator,
    Group,
}

#[derive(Clone, Copy)]
struct Item {
    kind: Kind,
    start: usize,
    end: usize,
}

/// At one place ends come before beginnings, inner ends before outer ones.
struct Edit {
    at: usize,
    order: u8,
    removed: usize,
    text: &'static str,
}

struct Group {
    open: usize,
    call: bool,
    items: Vec<Item>,
}

struct Rewriter<'a> {
    source: &'a str,
    edits: Vec<Edit>,
}

const KEYWORDS: [&str; 7] = ["and", "or", "not", "if", "elif", "else", "in"];
const OPERATORS: [&str; 6] = ["//", "**", "==", "!=", "<=", ">="];

/// The bytes of a number: 12, 1_000, 0x1f, 1.5, 2e-7.
fn number_size(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        let signed =
            matches!(byte, b'+' | b'-') && matches!(bytes[at - 1], b'e' | b'E') && !text.starts_with("0x");
        if !(byte.is_ascii_alphanumeric() || byte == b'_' || ((byte == b'.' || signed) && digit(at + 1))) {
            break;
        }
        at += 1;
    }
    at
}

impl<'a> Rewriter<'a> {
    fn text(&self, item: &Item) -> &'a str {
        &self.source[item.start..item.end]
    }

    fn edit(&mut self, at: usize, order: u8, text: &'static str) {
        self.edits.push(Edit { at, order, removed: 0, text });
    }

    /// A word that is an operator here, not an attribute's or a test's name.
    fn is_keyword(&self, items: &[Item], i: usize) -> bool {
        let before = i.checked_sub(1).map_or("", |b| self.text(&items[b]));
        items[i].kind == Kind::Word
            && KEYWORDS.contains(&self.text(&items[i]))
            && before != "."
            && before != "is"
    }

    /// Ends the operands of `~`: what binds weaker than it.
    fn is_boundary(&self, items: &[Item], i: usize) -> bool {
        let before = i.checked_sub(1).map(|b| &items[b]);
        match items[i].kind {
            Kind::Word => self.is_keyword(items, i),
            Kind::Operator => match self.text(&items[i]) {
                "==" | "!=" | "<" | ">" | "<=" | ">=" | "," | ":" | "=" => true,
                // A sign binds tighter.
                "+" | "-" => {
                    before.is_some_and(|b| b.kind != Kind::Operator && !self.is_keyword(items, i - 1))
                }
                _ => false,
            },
            _ => false,
        }
    }

    fn join(&mut self, items: &[Item]) {
        let operands: Vec<&[Item]> = items
            .split(|item| item.kind == Kind::Operator && &self.source[item.start..item.end] == "~")
            .collect();
        if operands.len() < 2 || operands.iter().any(|operand| operand.is_empty()) {
            return;
        }
        self.edit(items[0].start, 3, "(");
        self.edit(items[items.len() - 1].end, 2, ")");
        for operand in operands {
            self.edit(operand[0].start, 4, "(");
            self.edit(operand[operand.len() - 1].end, 1, ")|string");
        }
    }

    /// The items between two brackets, or of a whole tag.
    fn group(&mut self, items: &[Item]) {
        let mut first = 0;
        for i in 0..items.len() {
            if self.is_boundary(items, i) {
                self.join(&items[first..i]);
                first = i + 1;
            }
            let literals = i > 0 && i + 1 < items.len() && items[i - 1].kind == Kind::Literal;
            if literals && items[i].kind == Kind::Word && self.text(&items[i]) == "and" {
                self.edit(items[i - 1].start, 5, "(");
                self.edit(items[i - 1].end, 0, "|_same)");
            }
        }
        self.join(&items[first..]);
    }

    fn close(&mut self, group: &Group, targets: bool) {
        let comma = group.items.iter().any(|item| item.kind == Kind::Operator && self.text(item) == ",");
        if comma && !group.call && !targets && self.source[group.open..].starts_with('(') {
            self.edit(group.open, 6, "_tuple");
        }
        self.group(&group.items);
    }

    /// The end of the token that begins at `at`; None for what no tag can hold.
    fn token(&self, at: usize) -> Option<(Kind, usize)> {
        let rest = &self.source[at..];
        let first = rest.chars().next()?;
        if first == '"' || first == '\'' {
            let mut escaped = false;
            for (i, c) in rest.char_indices().skip(1) {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    c if c == first => return Some((Kind::Literal, at + i + 1)),
                    _ => {}
                }
            }
            return None;
        }
        if first.is_ascii_digit() {
            return Some((Kind::Literal, at + number_size(rest)));
        }
        if first.is_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
            return Some((Kind::Word, at + end.unwrap_or(rest.len())));
        }
        let long = OPERATORS.iter().any(|operator| rest.starts_with(operator));
        Some((Kind::Operator, at + if long { 2 } else { first.len_utf8() }))
    }

    /// Reads a tag's inside from `at`; → where its closing bracket begins.
    fn tag(&mut self, mut at: usize, closing: &str) -> Option<usize> {
        let mut open = vec![Group { open: at, call: false, items: Vec::new() }];
        let statement = closing == "%}";
        let mut targets = false;
        loop {
            let rest = &self.source[at..];
            let trimmed = rest.trim_start();
            at += rest.len() - trimmed.len();
            let marked = trimmed.starts_with(['-', '+']) && trimmed[1..].starts_with(closing);
            if open.len() == 1 && (marked || trimmed.starts_with(closing)) {
                let items = std::mem::take(&mut open[0].items);
                self.group(items.get(statement as usize..).unwrap_or(&[]));
                return Some(at);
            }
            let (kind, end) = self.token(at)?;
            let item = Item { kind, start: at, end };
            let text = self.text(&item);
            let depth = open.len();
            let current = open.last_mut()?;
            match text {
                "(" | "[" | "{" if kind == Kind::Operator => {
                    let items = std::mem::take(&mut current.items);
                    let call = items.last().is_some_and(|last| match last.kind {
                        Kind::Word => !self.is_keyword(&items, items.len() - 1),
                        Kind::Operator => false,
                        _ => true,
                    });
                    open.last_mut()?.items = items;
                    open.push(Group { open: at, call, items: Vec::new() });
                }
                ")" | "]" | "}" if kind == Kind::Operator => {
                    let group = open.pop()?;
                    self.close(&group, targets);
                    open.last_mut()?.items.push(Item { kind: Kind::Group, start: group.open, end });
                }
                _ => {
                    let head = statement && depth == 1 && current.items.is_empty();
                    current.items.push(item);
                    match text {
                        "for" | "set" if head => targets = true,
                        "in" | "=" if depth == 1 => targets = false,
                        "generation" if head => self.replace(item, "with"),
                        "endgeneration" if head => self.replace(item, "endwith"),
                        _ => {}
                    }
                }
            }
            at = end;
        }
    }

    fn replace(&mut self, item: Item, text: &'static str) {
        self.edits.push(Edit { at: item.start, order: 7, removed: item.end - item.start, text });
    }

    fn run(&mut self) -> Option<()> {
        let mut at = 0;
        while let Some(found) = self.source[at..].find('{') {
            at += found;
            let rest = &self.source[at..];
            if rest.starts_with("{#") {
                at += rest.find("#}")? + 2;
            } else if rest.starts_with("{{") {
                at = self.tag(at + 2, "}}")? + 2;
            } else if let Some(tag) = rest.strip_prefix("{%") {
                let inside = tag.trim_start_matches(['-', '+']).trim_start();
                if inside.starts_with("raw")
                    && inside[3..].trim_start().trim_start_matches('-').starts_with("%}")
                {
                    at += rest.find("endraw")? + 6;
                    at += self.source[at..].find("%}")? + 2;
                } else {
                    let marks = tag.starts_with(['-', '+']) as usize;
                    at = self.tag(at + 2 + marks, "%}")? + 2;
                }
            } else {
                at += 1;
            }
        }
        Some(())
    }
}

/// The source to give to minijinja. What cannot be read stays as it is from there on, for minijinja to complain about.
pub fn rewrite(source: &str) -> String {
    let mut rewriter = Rewriter { source, edits: Vec::new() };
    let _ = rewriter.run();
    let mut edits = rewriter.edits;
    edits.sort_by_key(|edit| (edit.at, edit.order));
    let mut out = String::with_capacity(source.len() + edits.len() * 8);
    let mut at = 0;
    for edit in edits {
        out.push_str(&source[at..edit.at]);
        out.push_str(edit.text);
        at = edit.at + edit.removed;
    }
    out.push_str(&source[at..]);
    out
}
