// Two network namespaces joined by a cable: this process, where the elements run, and a second one
// for the local SFU and a TURN server. The cable can be made bad in many ways; nothing outside the
// test notices.
#pragma once

#include <string>
#include <vector>

namespace cfr::test {

class Network {
 public:
  static constexpr char kOurs[] = "10.91.0.2", kOther[] = "10.91.0.3", kTheirs[] = "10.91.0.1";

  // Puts this process into the first namespace; before it has a second thread. False if this
  // machine does not let us, with the reason in problem().
  static bool enter();
  static const std::string& problem();
  // Words in front of a command that is to run at the other end of the cable.
  static std::vector<std::string> there();

  // Packets that match (an nftables expression, "" = all) are lost on the cable, in both directions,
  // but for those that match one of `spared`; replaces what was lost before.
  static void lose(const std::string& match, const std::vector<std::string>& spared = {});
  static void lose_nothing();
  // Our end gets another address, of two; connections from the old one are dead.
  static void change_address();
};

// Runs a command; its standard input is `input`. Fails the test if it fails.
void run(const std::vector<std::string>& words, const std::string& input = "");

// Adds to what the wall clock of this process shows.
void jump_clock(int seconds);

}  // namespace cfr::test
