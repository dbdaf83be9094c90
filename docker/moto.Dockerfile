# moto's S3 and SQS, for the profile `demo`: the whole job without an AWS account. Forgets everything when it ends.
FROM python:3.11-slim-bookworm
COPY locks/requirements-demo.txt /build/
RUN python -m venv --without-pip /venv \
 && python -m pip --python /venv/bin/python install --no-cache-dir --disable-pip-version-check --require-hashes -r /build/requirements-demo.txt
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 MOTO_ACCOUNT_ID=123456789012
USER 65534:65534
EXPOSE 5000
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/moto-api/', timeout=3)"]
CMD ["python", "-m", "moto.server", "-H", "0.0.0.0", "-p", "5000"]
