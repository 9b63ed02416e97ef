# mmdiff2in1 with the versions of requirements/lock.txt, for a GPU:
#   docker build -t mmdiff2in1 .
#   docker run --rm --gpus all --ipc host --user "$(id -u):$(id -g)" -e HOME=/tmp -v "$PWD:/work" mmdiff2in1 doctor
# torch comes from where pip looks, which has CUDA builds for Linux. From another index, a small image for processors:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu -t mmdiff2in1:cpu .
# Several processes: docker run … --entrypoint torchrun mmdiff2in1 --nproc-per-node 4 -m mmdiff2in1 train CONFIG
# There is no C compiler inside: `compile` of a config needs one (docs/gpu.md).
FROM python:3.12-slim
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements /source/requirements
# The large one first, with what it needs (CUDA), in exactly the version of the lock: the next line would replace another.
# hadolint ignore=DL3013
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' /source/requirements/lock.txt)"
# As `make setup`: complete, so that nothing drags in an opencv that wants libGL.
RUN pip install --no-deps -r /source/requirements/lock.txt
COPY . /source
RUN pip install --no-deps --no-build-isolation /source && mmdiff2in1 doctor
WORKDIR /work
ENTRYPOINT ["mmdiff2in1"]
CMD ["--help"]
