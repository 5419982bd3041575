//! The static GRUB configuration, run by a real GRUB in QEMU: which entry boots, with which
//! arguments, and what is left of the counter. No operating system takes part: the kernels only
//! say what they got. Where QEMU or GRUB is missing, the tests say so and pass.

mod kernel;
mod machine;

use machine::{Disk, can_run, entry};

/// What kernel N says when it got these arguments.
fn says(version: u32, options: &str) -> String {
    let image = format!("BOOT_IMAGE=/boot/ostree/os-{version}/vmlinuz-6.12");
    format!("kernel {version} <{image} {options}> initramfs {version}")
}

const TWO: [(u32, &str); 2] = [(1, "rw ostree=/o/1"), (2, "rw ostree=/o/2")];

fn two() -> Disk {
    let disk = Disk::new();
    disk.entries(&TWO);
    disk
}

#[test]
fn the_first_entry_boots_until_its_tries_are_used_up_then_the_second() {
    if !can_run() {
        return;
    }
    let disk = two();
    disk.grubenv(&[
        ("before", "a \\ b"),
        ("boot_counter", "2"),
        ("boot_success", "0"),
    ]);
    disk.write();
    for (boots, left) in [(2, "1"), (2, "0"), (1, "0"), (1, "0")] {
        assert_eq!(disk.boot(), says(boots, &format!("rw ostree=/o/{boots}")));
        assert_eq!(disk.counter().as_deref(), Some(left));
    }
    let env = disk.grubenv_after().unwrap();
    assert_eq!(env.get("before"), Some("a \\ b"));
    assert_eq!(env.get("boot_success"), Some("0"));
}

#[test]
fn counters_of_all_kinds() {
    if !can_run() {
        return;
    }
    for (variables, boots, left) in [
        (&[("boot_counter", "9")][..], 2, Some("8")),
        (
            &[("boot_counter", "0"), ("boot_success", "1")],
            2,
            Some("0"),
        ),
        (&[("boot_success", "0")], 2, None),
        // greenboot's GRUB leaves this; and what cannot be counted must not boot without end.
        (
            &[("boot_counter", "-1"), ("boot_success", "0")],
            1,
            Some("-1"),
        ),
        (&[("boot_counter", "12")], 1, Some("12")),
    ] {
        let disk = two();
        disk.grubenv(variables);
        disk.write();
        assert!(
            disk.boot().starts_with(&format!("kernel {boots} ")),
            "{variables:?}"
        );
        assert_eq!(disk.counter().as_deref(), left, "{variables:?}");
    }
}

#[test]
fn without_a_block_or_with_a_damaged_one_the_first_entry_boots() {
    if !can_run() {
        return;
    }
    for block in [None, Some(&b""[..]), Some(&[b'x'; 1024])] {
        let disk = two();
        if let Some(block) = block {
            disk.file("grub/grubenv", block);
        }
        disk.write();
        assert_eq!(disk.boot(), says(2, "rw ostree=/o/2"));
    }
}

#[test]
fn what_cannot_be_written_down_does_not_count_down_either() {
    if !can_run() {
        return;
    }
    let disk = two();
    disk.grubenv(&[("boot_counter", "3"), ("boot_success", "0")]);
    disk.write();
    let drive = "if=none,id=d,format=raw,file=disk,readonly=on";
    let said = disk.boot_with(&["-drive", drive]);
    assert_eq!(said, says(1, "rw ostree=/o/1"));
    assert_eq!(disk.counter().as_deref(), Some("3"));
}

#[test]
fn one_entry_and_many() {
    if !can_run() {
        return;
    }
    let disk = Disk::new();
    disk.entries(&TWO[..1]);
    disk.grubenv(&[("boot_counter", "0"), ("boot_success", "0")]);
    disk.write();
    // There is nothing else, and nothing is counted; no serial port either.
    assert_eq!(disk.boot_with(&[]), says(1, "rw ostree=/o/1"));
    let disk = Disk::new();
    let options: Vec<String> = (0..12).map(|n| format!("rw ostree=/o/{n}")).collect();
    let entries: Vec<_> = (1..).zip(options[1..].iter().map(String::as_str)).collect();
    disk.entries(&entries);
    disk.grubenv(&[("boot_counter", "1")]);
    disk.write();
    assert_eq!(disk.boot(), says(11, "rw ostree=/o/11"));
    assert_eq!(disk.boot(), says(10, "rw ostree=/o/10"));
}

#[test]
fn both_forms_of_paths_on_both_kinds_of_boot() {
    if !can_run() {
        return;
    }
    for prefix in ["", "/boot"] {
        for (disk, place) in [(Disk::new(), "/boot"), (Disk::separate_boot(), "")] {
            let text = entry(1, prefix, "rw ostree=/o/1");
            disk.file("loader.1/entries/ostree-1.conf", text.as_bytes());
            disk.kernel(1);
            disk.grubenv(&[("boot_counter", "5")]);
            disk.write();
            let image = format!("BOOT_IMAGE={place}/ostree/os-1/vmlinuz-6.12");
            let expected = format!("kernel 1 <{image} rw ostree=/o/1> initramfs 1");
            assert_eq!(disk.boot(), expected, "{prefix:?} {place:?}");
            assert_eq!(disk.counter().as_deref(), Some("4"));
        }
    }
}

#[test]
fn arguments_arrive_as_the_kernel_reads_them() {
    if !can_run() {
        return;
    }
    let disk = Disk::new();
    let odd = "g=h,i:j/k@l%m^n~o*p?q[r](s)+t! -- --y -z";
    let options = format!("rw a=\"b c\" \"d=e f\" {odd} ostree=/o/1");
    let mut text = entry(1, "/boot", &options);
    text += "# comment\nsort-key x\nx-options-source-tuned a=b\narchitecture x64\n";
    disk.file("loader.1/entries/ostree-1.conf", text.as_bytes());
    disk.kernel(1);
    disk.write();
    // The kernel takes "a=b c" for a="b c".
    let expected = format!("rw \"a=b c\" \"d=e f\" {odd} ostree=/o/1");
    assert_eq!(disk.boot(), says(1, &expected));
}

#[test]
fn an_entry_that_grub_cannot_read_is_left_out() {
    if !can_run() {
        return;
    }
    for options in [
        "rw a=b;c ostree=/o/2",
        "rw a={b} } ostree=/o/2",
        "rw a='b ostree=/o/2",
        "rw",
    ] {
        let disk = Disk::new();
        disk.entries(&[TWO[0], (2, options)]);
        disk.file("loader.1/entries/zz.conf", b"\0\x01garbage \"");
        disk.file("loader.1/entries/empty.conf", b"");
        disk.write();
        assert_eq!(disk.boot(), says(1, "rw ostree=/o/1"), "{options}");
    }
}

#[test]
fn when_a_kernel_does_not_load_the_next_entry_boots() {
    if !can_run() {
        return;
    }
    const KERNEL: &str = "ostree/os-2/vmlinuz-6.12";
    let breaks: [fn(&Disk); 3] = [
        |disk| disk.without(KERNEL),
        |disk| disk.file(KERNEL, b"no kernel"),
        |disk| disk.without("ostree/os-2/initramfs-6.12.img"),
    ];
    for (at, damage) in breaks.iter().enumerate() {
        let disk = two();
        disk.grubenv(&[("boot_counter", "2")]);
        damage(&disk);
        disk.write();
        assert_eq!(disk.boot(), says(1, "rw ostree=/o/1"), "{at}");
        assert_eq!(disk.counter().as_deref(), Some("1"), "{at}");
    }
}
