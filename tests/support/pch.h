// What nearly every test includes, compiled once a program. Tests still include what they use.
#ifndef CFR_TESTS_PCH_H
#define CFR_TESTS_PCH_H

#include <gio/gio.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <variant>
#include <vector>
#endif
