"""An index becomes shards, and the shards a committed dataset."""
