//! Makes a component from a guest in the text format and its manifest:
//! `cargo run -p crm-plugins --example assemble -- probe.wat plugin.toml probe.wasm`

use crm_core::plugin::Manifest;
use crm_plugins::testing::assemble;

fn main() -> anyhow::Result<()> {
    let files: Vec<_> = std::env::args().skip(1).collect();
    let [guest, manifest, out] = files.as_slice() else {
        anyhow::bail!("name the guest, its manifest and the component to write");
    };
    let manifest = std::fs::read_to_string(manifest)?;
    let export = "export describe: func() -> description;\n  export handle";
    let world = crm_plugins::world(&Manifest::parse(&manifest)?)?.replace("export handle", export);
    let component = assemble(wat::parse_file(guest)?, &world, &manifest)?;
    std::fs::write(out, component)?;
    Ok(())
}
