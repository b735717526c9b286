/* Preloaded into the processes of one site: a wall clock that is wrong and a disk that is slow, as `machines.py`
   says in the file named by CHAOS_MACHINE while they run. Monotonic clocks and waits stay true. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* machines.py knows the order. */
struct machine {
    volatile int64_t ahead_ns, gain_ppb, gain_since_ns, sync_delay_ns;
    int64_t wrong_clocks_read, delayed_syncs;
};

static const int64_t SECOND = 1000000000;
static struct machine sound;
static struct machine *machine = &sound;
static int (*true_clock)(clockid_t, struct timespec *);
static int (*true_fsync)(int), (*true_fdatasync)(int);

__attribute__((constructor)) static void begin(void) {
    true_clock = dlsym(RTLD_NEXT, "clock_gettime");
    true_fsync = dlsym(RTLD_NEXT, "fsync");
    true_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    const char *path = getenv("CHAOS_MACHINE");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *shared = mmap(NULL, sizeof *machine, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared != MAP_FAILED) machine = shared;
    close(file);
}

static int read_clock(clockid_t clock, struct timespec *at) {
    return true_clock ? true_clock(clock, at) : (int)syscall(SYS_clock_gettime, clock, at);
}

static int64_t ahead(void) {
    int64_t ahead_ns = machine->ahead_ns, gain_ppb = machine->gain_ppb;
    if (gain_ppb) {
        struct timespec now;
        read_clock(CLOCK_MONOTONIC, &now);
        int64_t gone_us = (now.tv_sec * SECOND + now.tv_nsec - machine->gain_since_ns) / 1000;
        ahead_ns += gone_us * gain_ppb / 1000000;
    }
    if (ahead_ns) __atomic_fetch_add(&machine->wrong_clocks_read, 1, __ATOMIC_RELAXED);
    return ahead_ns;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = read_clock(clock, at);
    if (failed || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
    int64_t shown = at->tv_sec * SECOND + at->tv_nsec + ahead();
    at->tv_sec = shown / SECOND;
    at->tv_nsec = shown % SECOND;
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec shown;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &shown)) return -1;
    at->tv_sec = shown.tv_sec;
    at->tv_usec = shown.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec shown;
    if (clock_gettime(CLOCK_REALTIME, &shown)) return -1;
    if (at) *at = shown.tv_sec;
    return shown.tv_sec;
}

static void wait_for_the_disk(void) {
    int64_t delay_ns = machine->sync_delay_ns;
    if (delay_ns <= 0) return;
    struct timespec left = {delay_ns / SECOND, delay_ns % SECOND};
    __atomic_fetch_add(&machine->delayed_syncs, 1, __ATOMIC_RELAXED);
    while (nanosleep(&left, &left) && errno == EINTR) continue;
}

int fsync(int file) {
    wait_for_the_disk();
    return true_fsync(file);
}

int fdatasync(int file) {
    wait_for_the_disk();
    return true_fdatasync(file);
}
