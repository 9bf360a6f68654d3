//! What a running transaction has written so far. Nobody else sees it before the commit.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Key;

/// The buffered writes of one attempt: the last value per key.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    values: BTreeMap<Key, Bytes>,
    bytes: usize,
}

impl WriteBuffer {
    /// The attempt's own last write of `key`.
    pub fn get(&self, key: &Key) -> Option<&Bytes> {
        self.values.get(key)
    }

    /// Replaces the buffered value of `key`.
    pub fn put(&mut self, key: Key, value: Bytes) {
        self.bytes += key.as_str().len() + value.len();
        if let Some(old) = self.values.get(&key) {
            self.bytes -= key.as_str().len() + old.len();
        }
        self.values.insert(key, value);
    }

    /// How large the buffer would be, in bytes, after a [`put`](Self::put).
    pub fn bytes_after(&self, key: &Key, value: &Bytes) -> usize {
        match self.values.get(key) {
            Some(old) => self.bytes - old.len() + value.len(),
            None => self.bytes + key.as_str().len() + value.len(),
        }
    }

    /// Bytes of keys and values held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The keys that were written, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.values.keys()
    }

    /// How many keys were written.
    pub fn key_count(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The writes in key order.
    pub fn into_writes(self) -> impl Iterator<Item = (Key, Bytes)> {
        self.values.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_holds() {
        let key = Key::parse("key").expect("valid");
        let mut buffer = WriteBuffer::default();
        for value in ["a long value", "", "short"] {
            let value = Bytes::from(value);
            let expected = buffer.bytes_after(&key, &value);
            buffer.put(key.clone(), value.clone());
            assert_eq!(buffer.bytes(), expected);
            assert_eq!(buffer.bytes(), 3 + value.len());
            assert_eq!(buffer.get(&key), Some(&value));
        }
    }
}
