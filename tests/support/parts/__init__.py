"""The real components, one module each: how it is fetched or built, and how it is started."""
