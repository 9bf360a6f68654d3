//! A client of Anna.
