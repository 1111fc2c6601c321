// Loaded before a program: a file system without fsync.

#include <unistd.h>

#include <cerrno>

extern "C" int fsync(int) {
  errno = ENOTSUP;
  return -1;
}
