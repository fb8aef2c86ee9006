//! Readers that race the writer.
