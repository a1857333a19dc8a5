/* LD_PRELOAD shim: a disk whose every sync takes 2 ms longer, like the network disk of an ordinary cloud machine. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

typedef int (*sync_function)(int);

static int slowly(const char *name, int descriptor) {
    const struct timespec extra = {.tv_sec = 0, .tv_nsec = 2 * 1000 * 1000};
    sync_function real = (sync_function)dlsym(RTLD_NEXT, name);
    nanosleep(&extra, NULL);
    return real(descriptor);
}

int fsync(int descriptor) { return slowly("fsync", descriptor); }

int fdatasync(int descriptor) { return slowly("fdatasync", descriptor); }
