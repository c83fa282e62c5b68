//! Tests of keys through the public surface.
