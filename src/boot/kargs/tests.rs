//! Tests of kernel arguments: the kernel's rules, and what may be added.

use proptest::prelude::*;

use super::*;

fn arg(text: &str) -> Karg {
    Karg::new(text).unwrap()
}

#[test]
fn a_command_line_is_split_as_the_kernel_does() {
    for (line, args) in [
        ("", vec![]),
        (" quiet  rw\t", vec!["quiet", "rw"]),
        ("a=\"b c\" d", vec!["a=\"b c\"", "d"]),
        ("\"a=b c\" d", vec!["\"a=b c\"", "d"]),
        ("x=\"a b", vec!["x=\"a b"]),
        ("foo=a\" b \"c d", vec!["foo=a\" b \"c", "d"]),
        ("root=UUID=1 -- init", vec!["root=UUID=1", "--", "init"]),
        ("a=é\u{a0}b c", vec!["a=é\u{a0}b", "c"]),
    ] {
        let parsed = KernelArgs::parse(line);
        assert_eq!(parsed.to_words(), args, "{line:?}");
    }
}

#[test]
fn keys_and_values_are_those_of_the_kernel() {
    for (text, key, value) in [
        ("quiet", "quiet", None),
        ("a=", "a", Some("")),
        ("root=UUID=1", "root", Some("UUID=1")),
        ("a=\"b c\"", "a", Some("b c")),
        ("\"a=b c\"", "a", Some("b c")),
        ("dyndbg=\"file x.c +p\"", "dyndbg", Some("file x.c +p")),
    ] {
        let arg = arg(text);
        assert_eq!((arg.key(), arg.value()), (key, value), "{text}");
    }
    for (a, b, same) in [
        ("nvme-core.x=1", "nvme_core.x=1", true),
        ("a=\"b\"", "a=b", true),
        ("a=b-c", "a=b_c", false),
        ("a", "a=", false),
        ("a", "A", false),
    ] {
        assert_eq!(arg(a).same(&arg(b)), same, "{a} {b}");
    }
}

#[test]
fn what_is_not_one_argument_is_refused() {
    let refused = |text: &str| Karg::new(text).unwrap_err();
    assert_eq!(refused("  "), KargError::NoKey(String::new()));
    assert_eq!(refused("=x"), KargError::NoKey("=x".into()));
    assert_eq!(refused("\"=x\""), KargError::NoKey("\"=x\"".into()));
    assert_eq!(refused("a b"), KargError::Several("a b".into()));
    assert_eq!(refused("a=\"b c"), KargError::Quote("a=\"b c".into()));
    assert_eq!(refused("a=\nb"), KargError::Control("a=\nb".into()));
    assert_eq!(
        refused("ostree=/x"),
        KargError::Reserved("ostree=/x".into())
    );
    let long = "x".repeat(MAX_BYTES + 1);
    assert_eq!(refused(&long), KargError::TooLong("x".repeat(60)));
    assert_eq!(arg(" quiet ").as_str(), "quiet");
    assert_eq!(
        arg("ostree.prepare-root.composefs=0").key(),
        "ostree.prepare-root.composefs"
    );
}

#[test]
fn changes_keep_the_order() {
    let mut args = KernelArgs::parse("root=a rw console=tty0 quiet console=ttyS0");
    args.append(arg("rw"));
    assert!(!args.append_if_missing(&arg("quiet")));
    assert!(args.append_if_missing(&arg("nosmt")));
    assert!(args.replace(&arg("console=tty0"), &arg("console=tty1")));
    assert!(!args.replace(&arg("console=tty0"), &arg("console=tty1")));
    assert!(args.remove(&arg("rw")));
    assert!(!args.remove(&arg("rw")));
    assert_eq!(
        args.to_string(),
        "root=a console=tty1 quiet console=ttyS0 nosmt"
    );
    let of_key = |key| -> Vec<&str> { args.of_key(key).iter().map(|a| a.as_str()).collect() };
    assert_eq!(of_key("console"), ["console=tty1", "console=ttyS0"]);
    assert_eq!(of_key("consol"), [""; 0]);
}

#[test]
fn what_grub_would_take_for_script_is_found() {
    for (text, found) in [
        ("root=UUID=1-2", None),
        ("a=x#y", None),
        ("#a", Some('#')),
        ("a=$b", Some('$')),
        ("a=b;c", Some(';')),
        ("a=\"b c\"", None),
        ("\"a=b c\"", None),
        ("a=\"file x.c +p; {1|2}\"", None),
        ("a=\"b $c\"", Some('$')),
        ("a=\"it's\"", Some('\'')),
        ("a=b\" \"c", Some('"')),
        ("a;b=\"c d\"", Some(';')),
        ("\"a=b\"c\"d\"", Some('"')),
        ("a='b'", Some('\'')),
        ("a={b}", Some('{')),
        ("a=b\\c", Some('\\')),
        ("a=b&c", Some('&')),
        ("a=<b", Some('<')),
        ("a=b|c", Some('|')),
    ] {
        assert_eq!(arg(text).grub_obstacle(), found, "{text}");
    }
}

proptest! {
    #[test]
    fn printing_and_parsing_are_inverse(line in "([a-z=\" \t-]|quiet |\\PC){0,60}") {
        let args = KernelArgs::parse(&line);
        prop_assert_eq!(KernelArgs::parse(&args.to_string()), args);
    }

    #[test]
    fn an_accepted_argument_is_one_word(text in "([a-z=\" ]|\\PC){0,20}") {
        if let Ok(arg) = Karg::new(&text) {
            let line = format!("a {arg} b");
            let args = KernelArgs::parse(&line);
            prop_assert_eq!(args.to_words(), ["a", arg.as_str(), "b"]);
        }
    }
}
