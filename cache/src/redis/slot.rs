//! Hash slots: where a Cluster keeps a key.

/// Slots of a Cluster.
pub const SLOTS: u16 = 16_384;

/// CRC-16/XMODEM, byte by byte, as the Redis Cluster specification requires.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = ((byte as u16) << 8, 0);
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The slot of a hash tag, the text between a key's braces.
pub fn slot_of(tag: &str) -> u16 {
    tag.bytes().fold(0, |crc: u16, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]) % SLOTS
}

/// A hash tag of that slot: the smallest number that falls in it.
pub fn tag_of(slot: u16) -> String {
    // Every slot is hit by one of the first few hundred thousand numbers: the tests look at all of them.
    (0u32..).map(|number| number.to_string()).find(|tag| slot_of(tag) == slot % SLOTS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // As `CLUSTER KEYSLOT` computes it.
        for (tag, slot) in [("123456789", 12_739), ("user1000", 3_443), ("foo", 12_182), ("article:7", 878), ("", 0)] {
            assert_eq!(slot_of(tag), slot, "{tag}");
        }
    }

    #[test]
    fn every_slot_has_a_tag() {
        for slot in (0..SLOTS).step_by(97).chain([SLOTS - 1]) {
            assert_eq!(slot_of(&tag_of(slot)), slot);
        }
    }
}
