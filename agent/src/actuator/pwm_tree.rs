//! What the kernel shows of one PWM chip, as plain files, for tests.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder that looks like `/sys/class/pwm` with one chip.
pub struct Tree(tempfile::TempDir);

impl Tree {
    /// Its channel 0 is there, or not yet.
    pub fn new(exported: bool) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        fs::create_dir(tree.chip()).unwrap();
        ["export", "unexport"].iter().for_each(|file| fs::write(tree.chip().join(file), "").unwrap());
        if exported {
            make_channel(&tree.chip());
        }
        tree
    }

    /// What stands for `/sys/class/pwm`.
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    pub fn chip(&self) -> PathBuf {
        self.root().join("pwmchip0")
    }

    /// Period, duty cycle, polarity and whether it is enabled.
    pub fn says(&self) -> [String; 4] {
        ["period", "duty_cycle", "polarity", "enable"]
            .map(|file| fs::read_to_string(self.chip().join("pwm0").join(file)).unwrap().trim().to_owned())
    }
}

/// Exports channel 0 of this chip, which nobody has used before.
pub fn make_channel(chip: &Path) {
    let folder = chip.join("pwm0");
    fs::create_dir(&folder).unwrap();
    for (file, value) in [("period", "0"), ("polarity", "normal\n"), ("enable", "0"), ("duty_cycle", "0")] {
        fs::write(folder.join(file), value).unwrap();
    }
}
