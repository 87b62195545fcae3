"""The outside world behind small interfaces: store, tracking, Ray, errors, progress."""
