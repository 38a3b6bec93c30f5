# Ray with rem-study and all that it imports, for rayjob.yaml and other clusters that start from an image.
FROM rayproject/ray:2.60.0-py311-gpu
COPY --chown=ray:users . /home/ray/rem-study
# Ray stays as the image has it: the pin makes pip refuse to move it.
RUN python -m pip install --no-cache-dir "ray[default,tune]==2.60.0" /home/ray/rem-study
