//! Kafka's default partitioner, so that every client agrees on a key's partition.
//!
//! Source: `org.apache.kafka.common.utils.Utils.murmur2` (Austin Appleby's MurmurHash2, seed 0x9747b28c).

/// MurmurHash2, 32 bits, as Java clients compute it.
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= (*byte as u32) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition of a key among `partitions` (at least 1).
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_java_clients() {
        // Partitions that a Java producer chose among 16.
        for (key, partition) in [("u1", 0), ("u2", 14), ("u42", 7), ("article:7", 6), ("", 9)] {
            assert_eq!(partition_of(key.as_bytes(), 16), partition, "{key}");
        }
    }
}
