#include "net/network.h"

#include <fcntl.h>
#include <gio/gio.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace cfr::test {

namespace {

std::string the_problem;
pid_t keeper = 0;  // a process that holds the other namespace open

bool write_file(const char* path, const std::string& text) {
  int file = open(path, O_WRONLY);
  bool written = file >= 0 && write(file, text.data(), text.size()) == ssize_t(text.size());
  if (file >= 0) close(file);
  return written;
}

// As root, or as root of a user namespace of our own.
bool unshare_all() {
  if (unshare(CLONE_NEWNET | CLONE_NEWNS) == 0) return true;
  uid_t user = getuid();
  gid_t group = getgid();
  return unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) == 0 &&
         write_file("/proc/self/setgroups", "deny") &&
         write_file("/proc/self/uid_map", "0 " + std::to_string(user) + " 1") &&
         write_file("/proc/self/gid_map", "0 " + std::to_string(group) + " 1");
}

bool start_keeper() {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return false;
  keeper = fork();
  if (keeper == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char ok = unshare(CLONE_NEWNET) == 0;
    (void)!write(ready[1], &ok, 1);
    while (true) pause();
  }
  char ok = 0;
  bool started = keeper > 0 && read(ready[0], &ok, 1) == 1 && ok;
  close(ready[0]);
  close(ready[1]);
  return started;
}

bool command(std::vector<std::string> words, const std::string& input, std::string* output) {
  std::vector<const char*> argv;
  for (const std::string& word : words) argv.push_back(word.c_str());
  argv.push_back(nullptr);
  g_autoptr(GError) error = nullptr;
  g_autoptr(GSubprocess) process = g_subprocess_newv(
      argv.data(),
      GSubprocessFlags(G_SUBPROCESS_FLAGS_STDIN_PIPE | G_SUBPROCESS_FLAGS_STDOUT_PIPE |
                       G_SUBPROCESS_FLAGS_STDERR_MERGE),
      &error);
  g_autofree char* text = nullptr;
  if (process &&
      g_subprocess_communicate_utf8(process, input.c_str(), nullptr, &text, nullptr, &error) &&
      g_subprocess_get_successful(process))
    return true;
  *output = error ? error->message : text ? text : "";
  return false;
}

}  // namespace

void run(const std::vector<std::string>& words, const std::string& input) {
  std::string output;
  if (!command(words, input, &output)) ADD_FAILURE() << words[0] << ": " << output;
}

std::vector<std::string> Network::there() {
  return {"nsenter", "-t", std::to_string(keeper), "-n", "--"};
}

const std::string& Network::problem() {
  return the_problem;
}

bool Network::enter() {
  if (!unshare_all() || !start_keeper()) {
    the_problem = std::string("no network namespace of our own: ") + strerror(errno);
    return false;
  }
  // What is mounted from here on is for this process alone.
  mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  auto both = [](const std::string& words) {
    std::vector<std::string> ours = {"sh", "-ec", words};
    std::string output;
    if (!command(ours, "", &output)) the_problem += output;
  };
  std::string other = "nsenter -t " + std::to_string(keeper) + " -n -- ";
  both("ip link set lo up; ip link add cable type veth peer name cable netns " +
       std::to_string(keeper) + "; ip addr add " + kOurs + "/24 dev cable; ip link set cable up; " +
       other + "ip link set lo up; " + other + "ip addr add " + kTheirs + "/24 dev cable; " +
       other + "ip link set cable up; " + "ip route add default via " + kTheirs);
  return the_problem.empty();
}

void Network::lose(const std::string& match, const std::vector<std::string>& spared) {
  // On arrival: a packet dropped on its way out would be an error to who sends it.
  std::string rules =
      "table inet fault {}\nflush table inet fault\ntable inet fault {\n chain in {\n"
      "  type filter hook input priority 0;\n  iifname != \"cable\" accept\n";
  for (const std::string& each : spared) rules += "  " + each + " accept\n";
  rules += "  " + match + " drop\n }\n}\n";
  run({"nft", "-f", "-"}, rules);
  auto words = there();
  for (const char* word : {"nft", "-f", "-"}) words.push_back(word);
  run(words, rules);
}

void Network::lose_nothing() {
  run({"nft", "flush", "ruleset"});
  auto words = there();
  for (const char* word : {"nft", "flush", "ruleset"}) words.push_back(word);
  run(words);
}

void Network::change_address() {
  static const char *from = kOurs, *to = kOther;
  run({"sh", "-ec",
       std::string("ip addr del ") + from + "/24 dev cable; ip addr add " + to +
           "/24 dev cable; ip route replace default via " + kTheirs});
  std::swap(from, to);
}

}  // namespace cfr::test
