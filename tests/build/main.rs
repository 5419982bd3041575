//! Making images of commits and of root file systems, with the program as users run it, and with other programs that read what it
//! writes. Needs `ostree`, `skopeo`, `umoci`, `flatpak`; what a machine lacks is skipped with a word.

mod any_root;
mod chunked;
mod destinations;
mod diff;
mod flatpak;
mod generations;
mod says;
mod scene;
mod schema;
