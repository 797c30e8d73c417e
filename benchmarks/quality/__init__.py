"""What `benchmarks.deid_quality` measures: planted tokens, an answer key, and the peers' hands."""
