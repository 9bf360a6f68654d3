//! To be written.
use super::memory::MemoryStore;
pub type EmbeddedStore = MemoryStore;
#[derive(Default)]
pub struct EmbeddedOptions;
#[derive(Debug, thiserror::Error)]
#[error("open")]
pub struct OpenError;
impl MemoryStore {
    pub fn open(_p: &std::path::Path, _o: EmbeddedOptions) -> Result<Self, OpenError> {
        Ok(Self::default())
    }
}
