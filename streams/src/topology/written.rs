//! Where a character of a text stands in the file, however YAML has the text: plain, in quotes, folded over several lines,
//! or as a block.

/// The line and column of the character `at` of `text`, which begins at a line and column of the file; all but `at` count
/// from 1. None where the file has another text there, or an escape by number.
pub(super) fn find(lines: &[&str], (line, column): (u32, u32), text: &str, at: u32) -> Option<(u32, u32)> {
    let (line, column) = ((line as usize).checked_sub(1)?, (column as usize).checked_sub(1)?);
    let mut reader = Reader { lines, line, chars: lines.get(line)?.chars().collect(), column, quote: None };
    match reader.chars.get(column) {
        Some(quote @ ('"' | '\'')) => {
            reader.quote = Some(*quote);
            reader.column += 1;
        }
        Some('|' | '>') => reader.next_line(0)?,
        _ => {}
    }
    let text: Vec<char> = text.chars().collect();
    for (place, c) in text.iter().enumerate().take(at as usize) {
        reader.pass(*c, &text[place + 1..])?;
    }
    // The place behind the end is behind the last character.
    if let Some(next) = text.get(at as usize) {
        reader.clone().pass(*next, &[])?;
    }
    Some((u32::try_from(reader.line + 1).ok()?, u32::try_from(reader.column + 1).ok()?))
}

#[derive(Clone)]
struct Reader<'a> {
    lines: &'a [&'a str],
    line: usize,
    chars: Vec<char>,
    column: usize,
    quote: Option<char>,
}

impl Reader<'_> {
    /// Moves behind a character of the text, which `rest` follows.
    fn pass(&mut self, c: char, rest: &[char]) -> Option<()> {
        let left = self.chars.get(self.column..).unwrap_or_default();
        let is_break = c == '\n' || c == ' ' && left.iter().all(|c| c.is_whitespace());
        let is_escaped = self.quote == Some('"') && left.first() == Some(&'\\');
        if is_break && !is_escaped {
            // Blanks at the beginning of the next line may be the text's own.
            return self.next_line(rest.iter().take_while(|c| **c == ' ').count());
        }
        let length = match (self.quote, left) {
            (Some('\''), ['\'', '\'', ..]) if c == '\'' => 2,
            (Some('"'), ['\\', escaped, ..]) => {
                let meant = match escaped {
                    'n' => '\n',
                    't' => '\t',
                    other => *other,
                };
                (meant == c).then_some(2)?
            }
            (_, [written, ..]) => (*written == c).then_some(1)?,
            (_, []) => return None,
        };
        self.column += length;
        Some(())
    }

    /// Moves to the first text of a line below, before so many blanks.
    fn next_line(&mut self, blanks: usize) -> Option<()> {
        loop {
            self.line += 1;
            self.chars = self.lines.get(self.line)?.chars().collect();
            if let Some(first) = self.chars.iter().position(|c| !c.is_whitespace()) {
                self.column = first.saturating_sub(blanks);
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_found_in_every_form_of_a_text() {
        for (file, text, marked, place) in [
            ("a: x && y", "x && y", '&', (1, 6)),
            ("a: 'it''s y'", "it's y", 'y', (1, 11)),
            (r#"a: "see \"x\" \\ y""#, r#"see "x" \ y"#, 'y', (1, 18)),
            ("a: x\n   &&\n  y", "x && y", 'y', (3, 3)),
            ("a: |\n    x\n      && y\n", "x\n  && y\n", 'y', (3, 10)),
            ("a: >-\n  x &&\n  y", "x && y", 'y', (3, 3)),
            ("a: \"x\n\n  y\"", "x\ny", 'y', (3, 3)),
            ("a: é'y", "é'y", 'y', (1, 6)),
        ] {
            let lines: Vec<&str> = file.split('\n').collect();
            let at = text.chars().position(|c| c == marked).unwrap() as u32;
            assert_eq!(find(&lines, (1, 4), text, at), Some(place), "{file}");
        }
        let behind = find(&["a: 'x &&'"], (1, 4), "x &&", 4);
        assert_eq!(behind, Some((1, 9)));
        assert_eq!(find(&["a: \"\\u0041b\""], (1, 4), "Ab", 1), None);
        assert_eq!(find(&["a: *x"], (1, 4), "other", 2), None);
    }
}
