//! The scenarios. Each says in its header what it proves; see CONTRIBUTING.md for how to run them.
