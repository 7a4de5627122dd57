//! Permissions of files. State that a command keeps for itself may hold texts of corpora: only its user can read it. Output has
//! the mode that the umask gives.

use std::fs;
use std::io;
use std::path::Path;

/// Makes all files and folders that this process creates from now on private. Child processes do the same.
pub(crate) fn set_private_umask() {
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

/// Makes a private folder, and the folders above it where they are missing.
///
/// # Errors
/// As [`fs::create_dir_all`].
pub(crate) fn create_private_dir_all(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Removes the access of others to a folder, which an earlier release may have granted. Another user's folder keeps its mode.
pub(crate) fn make_private(folder: &Path) {
    #[cfg(unix)]
    if let Err(error) = fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)) {
        tracing::debug!(folder = %folder.display(), %error, "the folder keeps its mode");
    }
    #[cfg(not(unix))]
    let _ = folder;
}
