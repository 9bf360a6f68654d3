//! A small single-process store that speaks Anna's protocol.
