#!/usr/bin/env bash
# Sourced by scripts that take a folder: prints the head of the script for -h and --help, and refuses other options.
case ${1:-} in
  -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" && exit 0 ;;
  -*) echo "$(basename "$0" .sh): unknown argument $1. Give a folder (./$1 if that is its name), or see: bash $0 --help" >&2 && exit 2 ;;
esac
