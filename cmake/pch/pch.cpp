// Nothing: this file carries a precompiled header that others reuse.
