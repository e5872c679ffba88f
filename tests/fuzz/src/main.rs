//! Writes what libFuzzer begins with: `mothership-fuzz FOLDER` makes `FOLDER/<target>/seeds` and `FOLDER/<target>/words`.
//! `mothership-fuzz` alone lists the targets; `mothership-fuzz TARGET FILE...` runs single inputs.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => mothership_fuzz::TARGETS
            .iter()
            .for_each(|target| println!("{}", target.name)),
        [folder] => {
            for target in &mothership_fuzz::TARGETS {
                write(target, &Path::new(folder).join(target.name))?;
            }
        }
        [name, files @ ..] => {
            let target = mothership_fuzz::target(name).expect("the first argument is a target");
            for file in files {
                (target.check)(&std::fs::read(file)?);
                println!("{file} holds");
            }
        }
    }
    Ok(())
}

fn write(target: &mothership_fuzz::Target, folder: &Path) -> std::io::Result<()> {
    let seeds = folder.join("seeds");
    std::fs::create_dir_all(&seeds)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(seeds.join(format!("{number:04}")), seed)?;
    }
    let word = |word: &&str| {
        let escaped: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{escaped}\"\n")
    };
    // libFuzzer takes a file without a line for none at all.
    let words: String = target.words.iter().map(word).collect();
    std::fs::write(folder.join("words"), format!("# words\n{words}"))
}
