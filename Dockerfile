# mmdiff2in1 on a GPU machine: docker build -t mmdiff2in1 . && docker run --gpus all --ipc host -v $PWD:/work -w /work mmdiff2in1 doctor
# With another index the same file makes a small image for processors:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu -t mmdiff2in1:cpu .
FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu126
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements /source/requirements
# The large one first, so that a change of the code does not fetch it again.
RUN pip install --index-url "$TORCH_INDEX" "torch>=2.6,<2.14"
COPY . /source
RUN pip install -c /source/requirements/lock.txt --no-deps -r /source/requirements/lock.txt || \
    pip install -r /source/requirements/runtime.txt
RUN pip install --no-deps /source && mmdiff2in1 doctor
ENTRYPOINT ["mmdiff2in1"]
