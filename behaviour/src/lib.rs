//! Models of normal.
