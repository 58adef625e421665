# The core and the HTTP API with its page. Not built by our CI: report what does not work.
#   docker build -t depthlight . && docker run --rm -p 127.0.0.1:8000:8000 depthlight
FROM python:3.11-slim
RUN useradd --create-home depthlight
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# the image has no git: the version is the fallback of pyproject.toml unless it is given here
ARG VERSION=0.1.dev0
RUN SETUPTOOLS_SCM_PRETEND_VERSION=${VERSION} pip install --no-cache-dir '.[app]' && rm -rf /src
USER depthlight
WORKDIR /home/depthlight
EXPOSE 8000
HEALTHCHECK CMD python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=3)"
CMD ["depthlight", "serve", "--host", "0.0.0.0", "--port", "8000"]
