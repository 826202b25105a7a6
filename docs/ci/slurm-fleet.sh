#!/bin/bash
# sbatch docs/ci/slurm-fleet.sh, from the project's folder on a shared disk: a Ray cluster for this job, and a fleet on it.
# Each node is a host of the fleet. An array job needs no Ray: sbatch --array=0-7 docs/ci/slurm.sh measures all of it on
# each node by itself.
#SBATCH --job-name=perfgate-fleet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --signal=B:INT@120
#SBATCH --output=perfgate-fleet-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$PWD}"
# Jobs may begin at once: one installs. What was cut short, without the program that comes last, is made again.
mkdir -p runs
(
    flock 9
    if [[ ! -x .venv/bin/perfgate ]]; then
        rm -rf .venv
        python3 -m venv .venv
        .venv/bin/python -m pip install -q -r requirements.txt
        .venv/bin/python -m pip install -q --no-deps --no-build-isolation -e .
    fi
    # By itself: beside the hashes of requirements.txt pip wants one of each package.
    if [[ ! -x .venv/bin/ray ]]; then
        .venv/bin/python -m pip install -q "ray==2.60.0"
    fi
) 9>runs/.install.lock
export PERFGATE_VLLM_PYTHON="${PERFGATE_VLLM_PYTHON:-/opt/vllm/bin/python3}"
export PERFGATE_FLEET_DIR="${SLURM_TMPDIR:-/tmp}/perfgate-fleet"
export RAY_USAGE_STATS_ENABLED=0
port=$((20000 + SLURM_JOB_ID % 20000))
head=$(hostname)
# The head's Ray gives no GPU of its own away twice: this node is a host as the others are.
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    .venv/bin/ray start --head --node-name="$head" --port="$port" --disable-usage-stats --block &
sleep 15
srun --ntasks="$((SLURM_JOB_NUM_NODES - 1))" --exclude="$head" --overlap bash -c \
    ".venv/bin/ray start --address=$head:$port --node-name=\$(hostname) --disable-usage-stats --block" &
sleep 15
# exec: the interrupt two minutes before the end then reaches the driver, which ends the launches on all hosts.
exec .venv/bin/python -m perfgate fleet run --address="$head:$port" --run-dir="runs/fleet-$SLURM_JOB_ID" \
    --launches=4 --gate="${PERFGATE_GATE:-required}" "$@" -- -m gpu --engine vllm --weights dummy
