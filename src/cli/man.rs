//! `man [DIR]`: the manual pages, made from the tree of commands, with the exit codes and files
//! added. Writes only into the directory it is given.

use std::fs;
use std::path::Path;

use anyhow::Result;
use clap::CommandFactory;
use clap_mangen::Man;
use fn_error_context::context;

use super::args::{Cli, ManArgs};
use super::{Context, Outcome, output};

/// What every page says after the options (man(7) text).
const SECTIONS: &str = r#".SH "EXIT STATUS"
.TP
0
Done.
.TP
1
An unexpected failure.
.TP
2
Wrong usage, or a wrong configuration or image reference.
.TP
3
The registry or the network failed, or the image is not what its digest promises.
.TP
4
The signature policy refuses the image.
.TP
5
Another operation holds the lock.
.TP
6
Not enough space.
.TP
7
Not supported on this host.
.TP
9
A check found something wrong with the image (\fBcontainer lint\fR), or with this boot (\fBboot check\fR).
.TP
75
Settings or conditions did not allow it now (\fBupgrade \-\-unattended\fR).
.TP
77
Nothing to do (\fBupgrade \-\-unchanged\-exit\-77\fR).
.TP
130, 143
Ended by SIGINT or SIGTERM; a pull has kept the layers that were finished.
.SH FILES
.TP
\fI/usr/lib/bowline\fR, \fI/etc/bowline\fR, \fI/run/bowline\fR
Settings (*.yaml); what stands later in this list wins.
.TP
\fI/ostree/repo\fR
The repository with the layers and images.
.TP
\fI/etc/ostree/auth.json\fR, \fI/run/ostree/auth.json\fR, \fI/usr/lib/ostree/auth.json\fR
Registry credentials; see containers\-auth.json(5).
.TP
\fI/etc/containers/policy.json\fR
Signature policy; see containers\-policy.json(5).
.TP
\fI/etc/containers/registries.d/*.yaml\fR
Where signatures are; see containers\-registries.d(5).
.TP
\fI/etc/containers/registries.conf\fR
Registries that may be reached over plain HTTP; see containers\-registries.conf(5).
.TP
\fI/etc/containers/certs.d\fR
Certificates of registries; see containers\-certs.d(5).
.SH "SEE ALSO"
ostree(1), containers\-auth.json(5), containers\-policy.json(5), containers\-registries.conf(5), containers\-registries.d(5)
"#;

/// Prints the top page, or writes all pages to a directory.
pub fn run(args: &ManArgs, _: &Context) -> Result<Outcome> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    match &args.dir {
        None => output::print_bytes(&page(&root)?)?,
        Some(dir) => write_pages(&root, dir)?,
    }
    Ok(Outcome::Done)
}

fn page(command: &clap::Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text)?;
    text.extend_from_slice(SECTIONS.as_bytes());
    Ok(text)
}

fn write_pages(command: &clap::Command, dir: &Path) -> Result<()> {
    let name = Man::new(command.clone()).get_filename();
    write_page(&page(command)?, &dir.join(name))?;
    command
        .get_subcommands()
        // What units run is documented, too.
        .filter(|sub| !sub.is_hide_set() || sub.get_name() == "boot")
        .try_for_each(|sub| write_pages(sub, dir))
}

#[context("Writing {}", path.display())]
fn write_page(text: &[u8], path: &Path) -> Result<()> {
    Ok(fs::write(path, text)?)
}
