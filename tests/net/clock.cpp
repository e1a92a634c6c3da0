// Stands before the C library's, for this process and all libraries it loads.
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

#include "net/network.h"

static std::atomic<int> offset_s{0};

void cfr::test::jump_clock(int seconds) {
  offset_s += seconds;
}

extern "C" int clock_gettime(clockid_t clock, struct timespec* now) noexcept {
  int result = int(syscall(SYS_clock_gettime, clock, now));
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    now->tv_sec += offset_s;
  return result;
}

extern "C" int gettimeofday(struct timeval* now, void*) noexcept {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

extern "C" time_t time(time_t* result) noexcept {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (result) *result = now.tv_sec;
  return now.tv_sec;
}
