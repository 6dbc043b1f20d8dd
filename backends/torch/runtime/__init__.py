"""The skeleton of emitted modules: real functions and classes, of which the emitter copies those that are used."""
