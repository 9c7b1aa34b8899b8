//! A page and its nodes, read with every length checked.

use super::Damage;

pub(super) const HEADER: usize = 16;
pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const OVERFLOW: u16 = 0x04;
pub(super) const META: u16 = 0x08;
const BIG_DATA: u16 = 0x01;
const SUB_DATA: u16 = 0x02;
/// Bytes before a node's key.
const NODE_HEADER: usize = 8;

/// A branch or a leaf.
pub(super) struct Page<'a> {
    number: u64,
    bytes: &'a [u8],
    pub is_leaf: bool,
}

/// What a node of a branch or leaf holds.
pub(super) enum Content<'a> {
    /// The child's page number.
    Child(u64),
    /// A value in the page.
    Value(&'a [u8]),
    /// A database of its own.
    Database(&'a [u8]),
    /// A value of `len_bytes` on consecutive pages from `first` on.
    Overflow { first: u64, len_bytes: u64 },
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_ne_bytes(*chunk))
}

/// Checks that a page has the requested number, and returns its flags. Exactly one flag, that of its kind, is ever
/// stored: a mapped page that is marked as dirty would be written to.
pub(super) fn kind(number: u64, bytes: &[u8]) -> Result<u16, Damage> {
    let (own, flags) = (u64_at(bytes, 0).unwrap_or_default(), u16_at(bytes, 10).unwrap_or_default());
    if own != number {
        return Err(Damage::at(number, format!("claims to be page {own}")));
    }
    Ok(flags)
}

impl<'a> Page<'a> {
    pub fn parse(number: u64, bytes: &'a [u8]) -> Result<Self, Damage> {
        let is_leaf = match kind(number, bytes)? {
            BRANCH => false,
            LEAF => true,
            other => return Err(Damage::at(number, format!("is neither branch nor leaf, but {other:#x}"))),
        };
        let page = Self { number, bytes, is_leaf };
        let (lower, upper) = (page.lower(), page.upper());
        if lower < HEADER || lower % 2 != 0 || lower > upper || upper > bytes.len() {
            return Err(Damage::at(number, format!("its bounds {lower} and {upper} are impossible")));
        }
        if page.len() < if is_leaf { 1 } else { 2 } {
            return Err(Damage::at(number, format!("has {} nodes", page.len())));
        }
        Ok(page)
    }

    fn lower(&self) -> usize {
        usize::from(u16_at(self.bytes, 12).unwrap_or_default())
    }

    fn upper(&self) -> usize {
        usize::from(u16_at(self.bytes, 14).unwrap_or_default())
    }

    /// How many nodes it has.
    pub fn len(&self) -> usize {
        (self.lower() - HEADER) / 2
    }

    /// A node's key and content.
    pub fn node(&self, index: usize) -> Result<(&'a [u8], Content<'a>), Damage> {
        self.node_checked(index).ok_or_else(|| Damage::at(self.number, format!("node {index} lies outside of it")))
    }

    fn node_checked(&self, index: usize) -> Option<(&'a [u8], Content<'a>)> {
        let at = usize::from(u16_at(self.bytes, HEADER + 2 * index)?);
        if at < self.upper() {
            return None;
        }
        let node = self.bytes.get(at..)?;
        let (halves, flags) = (lo_hi(u16_at(node, 0)?, u16_at(node, 2)?), u16_at(node, 4)?);
        let key_len = usize::from(u16_at(node, 6)?);
        let key = node.get(NODE_HEADER..NODE_HEADER + key_len)?;
        if !self.is_leaf {
            return Some((key, Content::Child(u64::from(halves) | u64::from(flags) << 32)));
        }
        let rest = &node[NODE_HEADER + key_len..];
        let content = match flags {
            0 => Content::Value(rest.get(..halves as usize)?),
            SUB_DATA => Content::Database(rest.get(..halves as usize)?),
            BIG_DATA => Content::Overflow { first: u64_at(rest, 0)?, len_bytes: halves.into() },
            _ => return None,
        };
        Some((key, content))
    }
}

fn lo_hi(first: u16, second: u16) -> u32 {
    let (lo, hi) = if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
    u32::from(lo) | u32::from(hi) << 16
}
