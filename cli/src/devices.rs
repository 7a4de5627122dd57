//! Which processors compute: what was typed, held against what this machine and this binary have.

use engine::{DeviceSpec, GpuError, GpuInfo};

use crate::args::DeviceArg;
use crate::exit::Advice;

/// Returns the devices that the argument means here, at least one, each once.
///
/// `auto` is every GPU that can be used, else the CPU; `gpus_can` is false where the model runs on CPUs alone.
pub(crate) fn resolve(arg: &DeviceArg, gpus_can: bool) -> Result<Vec<DeviceSpec>, Advice> {
    resolve_with(arg, gpus_can, engine::gpus)
}

fn resolve_with(
    arg: &DeviceArg,
    gpus_can: bool,
    gpus: impl FnOnce() -> Result<Vec<GpuInfo>, GpuError>,
) -> Result<Vec<DeviceSpec>, Advice> {
    let usable = |gpus: &[GpuInfo]| -> Vec<DeviceSpec> {
        let usable = gpus.iter().filter(|gpu| gpu.unusable.is_none());
        usable.map(|gpu| DeviceSpec::Cuda(gpu.ordinal)).collect()
    };
    match arg {
        DeviceArg::Auto if !gpus_can => Ok(vec![DeviceSpec::Cpu]),
        DeviceArg::Auto => match usable(&gpus().unwrap_or_default()) {
            none if none.is_empty() => Ok(vec![DeviceSpec::Cpu]),
            usable => Ok(usable),
        },
        DeviceArg::AllGpus => {
            let gpus = gpus().map_err(|problem| refused("cuda:all", &problem.to_string()))?;
            match usable(&gpus) {
                none if none.is_empty() => {
                    let problem = gpus.iter().find_map(|gpu| gpu.unusable.as_deref());
                    Err(refused("cuda:all", problem.unwrap_or("the driver shows no GPU")))
                }
                usable => Ok(usable),
            }
        }
        DeviceArg::These(devices) => {
            let wanted = devices.iter().filter_map(|device| match device {
                DeviceSpec::Cuda(ordinal) => Some(*ordinal),
                DeviceSpec::Cpu => None,
            });
            let wanted: Vec<usize> = wanted.collect();
            if let Some(highest) = wanted.iter().max() {
                let gpus = gpus().map_err(|problem| refused(&format!("cuda:{highest}"), &problem.to_string()))?;
                for ordinal in wanted {
                    let refused = |problem: &str| refused(&format!("cuda:{ordinal}"), problem);
                    let gpu = gpus.iter().find(|gpu| gpu.ordinal == ordinal);
                    let gpu = gpu.ok_or_else(|| refused(&format!("there are {} GPUs, counted from 0", gpus.len())))?;
                    if let Some(problem) = &gpu.unusable {
                        return Err(refused(problem));
                    }
                }
            }
            let mut once: Vec<DeviceSpec> = Vec::new();
            for device in devices {
                if !once.contains(device) {
                    once.push(device.clone());
                }
            }
            Ok(once)
        }
    }
}

fn refused(device: &str, problem: &str) -> Advice {
    Advice::usage(format!("--device {device}: {problem}")).hint("leave --device out to compute on what there is")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(count: usize) -> Result<Vec<GpuInfo>, GpuError> {
        let gpu =
            |ordinal| GpuInfo { ordinal, name: "a GPU".into(), compute: (9, 0), memory_bytes: 1 << 36, unusable: None };
        Ok((0..count).map(gpu).collect())
    }

    /// As many GPUs, of which the first is too old.
    fn machine_with_an_old_one(count: usize) -> Result<Vec<GpuInfo>, GpuError> {
        let mut gpus = machine(count)?;
        gpus[0].unusable = Some("a GPU has compute capability 7.5, at least 8.0 is needed".into());
        Ok(gpus)
    }

    fn no_driver() -> Result<Vec<GpuInfo>, GpuError> {
        Err(GpuError("no NVIDIA driver found: libcuda.so.1: cannot open shared object file".into()))
    }

    #[test]
    fn auto_takes_every_gpu_or_else_the_cpu() {
        let both = [DeviceSpec::Cuda(0), DeviceSpec::Cuda(1)];
        assert_eq!(resolve_with(&DeviceArg::Auto, true, || machine(2)).unwrap(), both);
        assert_eq!(resolve_with(&DeviceArg::Auto, true, || machine(0)).unwrap(), [DeviceSpec::Cpu]);
        assert_eq!(resolve_with(&DeviceArg::Auto, true, no_driver).unwrap(), [DeviceSpec::Cpu]);
        assert_eq!(resolve_with(&DeviceArg::Auto, false, || machine(2)).unwrap(), [DeviceSpec::Cpu]);
        assert_eq!(resolve_with(&DeviceArg::AllGpus, true, || machine(2)).unwrap(), both);
    }

    #[test]
    fn a_gpu_that_cannot_be_used_is_passed_over_unless_it_is_asked_for() {
        let second = [DeviceSpec::Cuda(1)];
        assert_eq!(resolve_with(&DeviceArg::Auto, true, || machine_with_an_old_one(2)).unwrap(), second);
        assert_eq!(resolve_with(&DeviceArg::AllGpus, true, || machine_with_an_old_one(2)).unwrap(), second);
        assert_eq!(resolve_with(&DeviceArg::Auto, true, || machine_with_an_old_one(1)).unwrap(), [DeviceSpec::Cpu]);
        let asked = DeviceArg::These(vec![DeviceSpec::Cuda(1), DeviceSpec::Cuda(0)]);
        for arg in [DeviceArg::AllGpus, asked] {
            let said =
                resolve_with(&arg, true, || machine_with_an_old_one(if arg == DeviceArg::AllGpus { 1 } else { 2 }));
            assert!(said.unwrap_err().to_string().contains("capability 7.5"), "{arg:?}");
        }
    }

    #[test]
    fn a_gpu_that_is_asked_for_must_be_there() {
        let asked = DeviceArg::These(vec![DeviceSpec::Cuda(1), DeviceSpec::Cuda(0), DeviceSpec::Cuda(1)]);
        let found = resolve_with(&asked, true, || machine(2)).unwrap();
        assert_eq!(found, [DeviceSpec::Cuda(1), DeviceSpec::Cuda(0)]);
        for (arg, gpus) in [(&asked, machine(1)), (&asked, no_driver()), (&DeviceArg::AllGpus, machine(0))] {
            assert!(resolve_with(arg, true, || gpus).is_err(), "{arg:?}");
        }
        let said = resolve_with(&DeviceArg::AllGpus, true, no_driver).unwrap_err().to_string();
        assert!(said.contains("no NVIDIA driver found: libcuda.so.1"), "{said}");
    }

    /// Holds for binaries without kernels and for machines without a driver: the machines that test this have no GPU.
    #[test]
    fn this_machine_says_what_it_lacks() {
        if engine::gpus().is_ok() {
            return;
        }
        let said = resolve(&DeviceArg::AllGpus, true).unwrap_err().to_string();
        assert!(said.contains("this binary has no CUDA") || said.contains("no NVIDIA driver found"), "{said}");
    }
}
