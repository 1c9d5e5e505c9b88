"""The shape of the package, as tests: who may name a vendor, and what a new provider has to bring."""
