"""The functions of views in JavaScript, and the process they run in. Light to import: that process does."""
